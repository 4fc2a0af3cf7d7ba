//! The kernels one by one, on a team of threads as a step has it: for measurements.

use super::buffers::Preparation;
use super::kv;
use super::memory::{HugeBytes, Shared};
use super::products::PIECE_TILES;
use super::step::UNIT_TOKENS;
use super::stored::MXFP4_BITS;
use super::weights::{Inputs, Matrix};
use crate::checkpoint::LoadError;
use crate::config::{ComputeMode, HugePages};
use crate::kernels::{
    Activations, AffineLayout, AffineRows, Attention, Float, Form, GroupOf, KvContent, KvLayout, KvView,
};
use crate::kernels::{QUERIES, Query, Seen, TILE, limits, padded_rows, prepared_bytes};
use crate::kv::BlockSpans;
use crate::model::{AttentionSpec, Microscaling, Module, Quantization, Storage};
use crate::runner::team::{Team, Threads, Worker};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A team of threads with nothing else to do.
#[derive(Debug)]
pub struct Workbench {
    form: Form,
    team: Team,
    threads: Threads,
}

/// Sizes of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductShape {
    /// Rows of the matrix.
    pub outputs: usize,
    /// Columns.
    pub inputs: usize,
    /// How its codes are stored.
    pub quantization: Quantization,
}

impl ProductShape {
    /// The product with the matrix of a module, as the executor lays it out; `None` if it reads floats.
    pub fn of(module: &Module) -> Option<Self> {
        let quantization = match module.storage {
            Storage::Affine(quantization) | Storage::Packed(quantization) => quantization,
            Storage::Micro(format @ Microscaling::Mxfp4) => {
                Quantization { bits: MXFP4_BITS, group_size: format.group_size() }
            }
            Storage::Dense(_)
            | Storage::Micro(Microscaling::Nvfp4 | Microscaling::Mxfp8)
            | Storage::ScaledNvfp4
            | Storage::Float8(_) => return None,
        };
        Some(Self { outputs: module.outputs, inputs: module.inputs, quantization })
    }
}

/// Matrices of one shape, together larger than the caches, so that each is read from memory.
#[derive(Debug)]
pub struct ProductBank {
    shape: ProductShape,
    matrices: Vec<Matrix>,
}

/// Memory on pages as the weights have them.
#[derive(Debug)]
pub struct ColdMemory(HugeBytes);

/// Keys and values of one sequence in many layers, together larger than the caches.
#[derive(Debug)]
pub struct AttentionBank {
    spec: AttentionSpec,
    layout: KvLayout,
    layers: Vec<ColdMemory>,
    table: Vec<u32>,
}

/// Rows with which all matrices of a bank are multiplied; with more rows it is fewer matrices.
const FEW_ROWS: usize = 8;
/// Small as f16 and as f32.
const FILL: u8 = 0x31;

fn no_room(error: &std::io::Error) -> LoadError {
    LoadError::Device { what: "memory of a measurement".to_owned(), message: error.to_string() }
}

impl ColdMemory {
    /// # Errors
    /// [`LoadError`] if the system has no such memory.
    pub fn new(bytes: usize, huge_pages: HugePages) -> Result<Self, LoadError> {
        let mut memory = HugeBytes::new(bytes, huge_pages).map_err(|error| no_room(&error))?;
        // Pages that nobody has written are all the same one. As floats these bytes are small numbers.
        memory.as_mut_slice().fill(FILL);
        Ok(Self(memory))
    }

    /// What stands there.
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl ProductBank {
    /// As many matrices as take `bytes` together, at least one.
    ///
    /// # Errors
    /// [`LoadError`] if the system has no such memory.
    pub fn new(shape: ProductShape, bytes: usize, huge_pages: HugePages) -> Result<Self, LoadError> {
        let ProductShape { outputs, inputs, quantization: Quantization { bits, group_size } } = shape;
        let layout = AffineLayout { bits, group: group_size, scales: Float::Bf16, k: inputs };
        let codes: Vec<u8> = (0..TILE * inputs * bits / 8).map(|i| ((i * 7_919) >> 5) as u8).collect();
        // 1/128 in bf16: sums stay small.
        let scales = [0x00, 0x3c].repeat(TILE * inputs / group_size);
        let rows = AffineRows { codes: &codes, scales: &scales, biases: &scales };
        let (tile_bytes, tiles) = (layout.tile_bytes(), outputs.div_ceil(TILE));
        let (size, form) = (tiles * tile_bytes, Form::best());
        let count = bytes.div_ceil(size).max(1);
        let mut memory = HugeBytes::new(count * size, huge_pages).map_err(|error| no_room(&error))?;
        memory.as_mut_slice().chunks_exact_mut(tile_bytes).for_each(|tile| layout.pack_rows(form, &rows, tile));
        let memory = Arc::new(memory);
        let matrix =
            |number| Matrix::packed(outputs, inputs, layout, memory.clone(), number * size..(number + 1) * size);
        let matrices = (0..count).map(matrix).collect();
        Ok(Self { shape, matrices })
    }

    /// Bytes of one matrix.
    pub fn matrix_bytes(&self) -> usize {
        self.matrices[0].bytes()
    }
}

impl AttentionBank {
    /// Layers with `context` positions each, as many as take `bytes` together, at least one.
    ///
    /// # Errors
    /// [`LoadError`] if the system has no such memory.
    pub fn new(
        spec: AttentionSpec,
        mode: ComputeMode,
        context: usize,
        bytes: usize,
        huge_pages: HugePages,
    ) -> Result<Self, LoadError> {
        let head_dim = spec.head_dim.next_multiple_of(TILE);
        let (kind, spans) = (kv::kind(mode), BlockSpans::from(TILE));
        let content = KvContent::KeysAndValues;
        let layout = KvLayout { content, kind, codes: None, kv_heads: spec.kv_heads, head_dim, spans };
        let blocks = context.div_ceil(TILE);
        let layer_bytes = blocks * layout.block_bytes();
        let mut layers = Vec::new();
        for _ in 0..bytes.div_ceil(layer_bytes).max(1) {
            layers.push(ColdMemory::new(layer_bytes, huge_pages)?);
        }
        Ok(Self { spec, layout, layers, table: (0..blocks as u32).collect() })
    }

    /// Bytes of keys and values of one layer.
    pub fn layer_bytes(&self) -> usize {
        self.layers[0].as_slice().len()
    }
}

impl Workbench {
    /// # Errors
    /// [`LoadError`] if the system starts no more threads, or binds one to no such core.
    pub fn new(form: Form, threads: Threads) -> Result<Self, LoadError> {
        Ok(Self { form, team: Team::new(threads.clone()).map_err(|error| no_room(&error))?, threads })
    }

    /// The kernels' instructions.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Threads that work together.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Reads memory, a part of it per thread. Gives the time.
    ///
    /// # Panics
    /// If what was read is no number: the memory is left over from nobody.
    pub fn read(&mut self, memory: &[u8]) -> Duration {
        let form = self.form;
        timed(|| {
            self.team.run(&|worker| {
                let part = worker.part(memory.len());
                assert!(!limits::read(form, &memory[part]).is_nan());
            });
        })
    }

    /// Multiplies bytes on every thread, `rounds` times [`limits::byte_operations`].
    pub fn multiply_bytes(&mut self, rounds: u32) -> Duration {
        let form = self.form;
        timed(|| {
            self.team.run(&|_| {
                std::hint::black_box(limits::multiply_bytes(form, rounds));
            });
        })
    }

    /// Multiplies floats on every thread, `rounds` times [`limits::float_operations`].
    pub fn multiply_floats(&mut self, rounds: u32) -> Duration {
        let form = self.form;
        timed(|| {
            self.team.run(&|_| {
                std::hint::black_box(limits::multiply_floats(form, rounds));
            });
        })
    }

    /// Multiplies `rows` rows with the matrices of a bank, as a step does; gives the time of one matrix.
    pub fn product(&mut self, bank: &ProductBank, mode: ComputeMode, rows: usize) -> Duration {
        let (form, inputs) = (self.form, bank.shape.inputs);
        let of = bank.matrices[0].preparation(form, mode).expect("the matrices of a bank are quantised");
        let Preparation { group, encoding } = of;
        let padded = padded_rows(encoding, inputs, rows);
        let mut quads = vec![0; padded * prepared_bytes(encoding, inputs)];
        let mut groups = vec![GroupOf::default(); padded * inputs / group];
        let (quads, groups) = (quads.as_mut_ptr(), groups.as_mut_ptr());
        let prepared = Activations { encoding, k: inputs, group, rows, quads, groups };
        let x: Vec<f32> = (0..inputs).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
        for row in 0..rows {
            // SAFETY: the row is readable, its places are this function's own.
            unsafe { prepared.write(form, row, x.as_ptr()) };
        }
        let stride = bank.matrices[0].tiles() * TILE;
        let mut out = vec![0.0; rows * stride];
        let inputs = Inputs { floats: x.as_ptr(), stride: 0, prepared: Some(prepared) };
        // With many rows a matrix is read while others are still computed, and it hardly counts where from.
        let count = (bank.matrices.len() * FEW_ROWS / rows).clamp(1, bank.matrices.len());
        let work = Work { matrices: &bank.matrices[..count], form, rows, inputs, out: Shared::new(&mut out), stride };
        let all = timed(|| self.team.run(&|worker| work.run(worker)));
        all / count as u32
    }

    /// Attention of the last `tokens` positions of a sequence of `context`, in each layer of a bank; gives the time of
    /// one layer.
    ///
    /// # Panics
    /// If the bank holds fewer positions.
    pub fn attention(&mut self, bank: &AttentionBank, context: usize, tokens: usize) -> Duration {
        assert!(context <= bank.table.len() * TILE && tokens <= context, "positions that the bank has not");
        let (spec, dim) = (&bank.spec, bank.layout.head_dim);
        let mut q = vec![0.01_f32; tokens * spec.heads * dim];
        let mut out = vec![0.0_f32; tokens * spec.heads * dim];
        let (q, out, form) = (Shared::new(&mut q), Shared::new(&mut out), self.form);
        let units = tokens.div_ceil(UNIT_TOKENS) * spec.kv_heads;
        let views: Vec<_> = bank.layers.iter().map(|memory| bank.view(memory)).collect();
        let all = timed(|| {
            self.team.run(&|worker| {
                for view in &views {
                    for unit in worker.share(units, 1).flatten() {
                        let (first, kv_head) = (unit / spec.kv_heads * UNIT_TOKENS, unit % spec.kv_heads);
                        let count = (tokens - first).min(UNIT_TOKENS) * spec.group();
                        let query = |i: usize| {
                            let (token, head) = (first + i / spec.group(), kv_head * spec.group() + i % spec.group());
                            let at = (token * spec.heads + head) * dim;
                            Query { q: q.at(at, dim), position: context - tokens + token, out: out.at(at, dim) }
                        };
                        // On the stack, as a step has them: allocating would be measured with the rest.
                        let mut queries = [query(0); 4 * QUERIES];
                        for from in (0..count).step_by(queries.len()) {
                            let queries = &mut queries[..(count - from).min(4 * QUERIES)];
                            queries.iter_mut().enumerate().for_each(|(i, place)| *place = query(from + i));
                            let attention =
                                Attention { kv: *view, kv_head, seen: Seen::Before { window: spec.window }, queries };
                            // SAFETY: nobody writes keys and values; a query's result is one thread's.
                            unsafe { attention.run(form) };
                        }
                    }
                    worker.meet();
                }
            });
        });
        all / bank.layers.len() as u32
    }
}

impl AttentionBank {
    fn view<'a>(&'a self, memory: &ColdMemory) -> KvView<'a> {
        KvView { layout: self.layout, memory: memory.as_slice().as_ptr().cast_mut(), table: &self.table }
    }
}

/// What the threads share of a product.
struct Work<'a> {
    matrices: &'a [Matrix],
    form: Form,
    rows: usize,
    inputs: Inputs,
    out: Shared<f32>,
    stride: usize,
}

// SAFETY: what the pointers of the inputs lead to is read only, for as long as the job runs.
unsafe impl Sync for Work<'_> {}

impl Work<'_> {
    /// A thread's part of all matrices.
    fn run(&self, worker: &Worker<'_>) {
        let rows = 0..self.rows;
        for matrix in self.matrices {
            for tiles in worker.share(matrix.tiles(), PIECE_TILES) {
                let out = self.out.pointer();
                // SAFETY: the rows are prepared; the tiles' columns of `out` are this thread's.
                unsafe { matrix.product(self.form, tiles, &self.inputs, rows.clone(), out, self.stride, None) };
            }
            worker.meet();
        }
    }
}

fn timed(job: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    job();
    begun.elapsed()
}
