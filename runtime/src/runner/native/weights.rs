use super::buffers::Preparation;
use super::memory::HugeBytes;
use super::stored::{Layout, MXFP4_BITS, StoredMatrix, turned, widened};
use crate::checkpoint::element_bytes;
use crate::config::ComputeMode;
use crate::kernels::{
    Activations, AffineLayout, AffineTiles, DenseProduct, Encoding, Form, Product, TILE, WordProduct, add,
    unpack_dense_row, unpack_word_row,
};
use crate::model::{Blueprint, Microscaling, MixerSpec, Module, ModuleKind, Modules, Quantization, Storage};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// A matrix in tiles of sixteen rows, as the kernels read it. Rows beyond the last one are zero.
#[derive(Debug)]
pub(super) struct Matrix {
    /// Rows.
    pub(super) outputs: usize,
    /// Columns.
    pub(super) inputs: usize,
    layout: Layout,
    place: Place,
}

/// Where the tiles of a matrix are.
#[derive(Debug)]
enum Place {
    /// All of them in memory.
    Packed { memory: Arc<HugeBytes>, range: Range<usize> },
    /// Nowhere: each is made of the stored rows when it is read.
    Stored(StoredMatrix),
}

thread_local! {
    /// The tile that a thread has made of stored rows.
    static MADE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A matrix and what is added to each output.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    /// `[outputs]`, or zeros behind them to the end of a tile.
    pub(super) bias: Option<Vec<f32>>,
}

impl Linear {
    /// Adds the bias, if there is one, to a row of outputs.
    pub(super) fn add_bias(&self, row: &mut [f32]) {
        if let Some(bias) = &self.bias {
            add(row, &bias[..row.len()]);
        }
    }
}

/// The rows that a product reads: floats, or prepared for the groups of quantised weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs {
    /// `[rows, stride]`.
    pub(super) floats: *const f32,
    pub(super) stride: usize,
    /// In the groups of the weights, if they are quantised or rounded.
    pub(super) prepared: Option<Activations>,
}

impl Matrix {
    /// A matrix whose tiles are made when they are read.
    pub(super) fn new(outputs: usize, inputs: usize, stored: StoredMatrix) -> Self {
        Self { outputs, inputs, layout: stored.layout, place: Place::Stored(stored) }
    }

    /// A matrix whose tiles are in this part of `memory`.
    pub(super) fn packed(
        outputs: usize,
        inputs: usize,
        layout: AffineLayout,
        memory: Arc<HugeBytes>,
        range: Range<usize>,
    ) -> Self {
        Self { outputs, inputs, layout: Layout::Affine(layout), place: Place::Packed { memory, range } }
    }

    /// Its rows in the checkpoint, unless they are packed.
    pub(super) fn stored(&self) -> Option<&StoredMatrix> {
        match &self.place {
            Place::Stored(stored) => Some(stored),
            Place::Packed { .. } => None,
        }
    }

    /// Layout of its tiles.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// From now on all tiles are in this part of `memory`.
    pub(super) fn take(&mut self, memory: Arc<HugeBytes>, range: Range<usize>) {
        self.place = Place::Packed { memory, range };
    }

    /// How many tiles of sixteen outputs there are.
    pub(super) fn tiles(&self) -> usize {
        self.outputs.div_ceil(TILE)
    }

    /// Bytes that a product reads of it.
    pub(super) fn bytes(&self) -> usize {
        self.tiles() * self.layout.tile_bytes()
    }

    /// What its inputs must be prepared for; `None` if it reads floats.
    pub(super) fn preparation(&self, form: Form, mode: ComputeMode) -> Option<Preparation> {
        match &self.layout {
            Layout::Affine(layout) => {
                Some(Preparation { group: layout.group, encoding: Encoding::of(form, mode, layout.bits) })
            }
            Layout::Words { layout, k } => Some(Preparation { group: *k, encoding: layout.encoding() }),
            Layout::Dense { .. } => None,
        }
    }

    /// Widens row `row` to `out`, `[inputs]`.
    pub(super) fn row(&self, form: Form, row: usize, out: &mut [f32]) {
        self.with_tiles(form, row / TILE..row / TILE + 1, |tile, _| match &self.layout {
            Layout::Affine(layout) => layout.unpack_row(tile, row % TILE, out),
            Layout::Dense { kind, .. } => unpack_dense_row(*kind, tile, row % TILE, out),
            Layout::Words { layout, .. } => unpack_word_row(*layout, tile, row % TILE, out),
        });
    }

    /// Computes `out[row][16 t..]` for some tiles `t` and all of `rows`, and adds `bias` to each row, if there is one: zeros
    /// behind the outputs to the end of a tile.
    ///
    /// # Safety
    /// The inputs are prepared by `form`, and readable, the places of `out` writable and used by nobody else.
    #[expect(clippy::too_many_arguments, reason = "a product and its operands")]
    pub(super) unsafe fn product(
        &self,
        form: Form,
        tiles: Range<usize>,
        inputs: &Inputs,
        rows: Range<usize>,
        out: *mut f32,
        stride: usize,
        bias: Option<&[f32]>,
    ) {
        self.with_tiles(form, tiles, |bytes, first| {
            let tiles = 0..bytes.len() / self.layout.tile_bytes();
            let bias = bias.map(|bias| &bias[first * TILE..]);
            // SAFETY: as the caller vouches, for each tile once.
            unsafe { self.multiply(form, bytes, tiles, inputs, rows.clone(), out.add(first * TILE), stride, bias) }
        });
    }

    /// Calls `read` with bytes of some tiles and the number of the first one: with all tiles at once, or with one after the
    /// other.
    fn with_tiles(&self, form: Form, tiles: Range<usize>, mut read: impl FnMut(&[u8], usize)) {
        let tile_bytes = self.layout.tile_bytes();
        match &self.place {
            Place::Packed { memory, range } => {
                let bytes = &memory.as_slice()[range.clone()];
                read(&bytes[tiles.start * tile_bytes..tiles.end * tile_bytes], tiles.start);
            }
            Place::Stored(stored) => MADE.with_borrow_mut(|made| {
                made.resize(tile_bytes, 0);
                for tile in tiles {
                    stored.pack(form, tile, made);
                    read(made, tile);
                }
            }),
        }
    }

    /// Multiplies with tiles that stand in `bytes`.
    ///
    /// # Safety
    /// As [`Self::product`].
    #[expect(clippy::too_many_arguments, reason = "a product and its operands")]
    unsafe fn multiply(
        &self,
        form: Form,
        bytes: &[u8],
        tiles: Range<usize>,
        inputs: &Inputs,
        rows: Range<usize>,
        out: *mut f32,
        stride: usize,
        bias: Option<&[f32]>,
    ) {
        match &self.layout {
            Layout::Affine(layout) => {
                let x = inputs.prepared.expect("inputs of quantised weights are prepared");
                let weights = AffineTiles { layout: *layout, bytes };
                let (n, all) = (tiles.len() * TILE, rows.clone());
                let product = Product { weights, tiles, x, rows, out, stride };
                // SAFETY: as the caller vouches.
                unsafe {
                    product.run(form);
                    if let Some(bias) = bias {
                        all.for_each(|row| add(std::slice::from_raw_parts_mut(out.add(row * stride), n), &bias[..n]));
                    }
                }
            }
            Layout::Words { layout, .. } => {
                let x = inputs.prepared.expect("inputs of rounded weights are prepared");
                // SAFETY: as the caller vouches.
                unsafe { WordProduct { layout: *layout, weights: bytes, tiles, x, rows, out, stride, bias }.run(form) }
            }
            Layout::Dense { kind, k } => {
                let product = DenseProduct {
                    kind: *kind,
                    k: *k,
                    weights: bytes,
                    tiles,
                    x: inputs.floats,
                    x_stride: inputs.stride,
                    rows,
                    out,
                    stride,
                    bias,
                };
                // SAFETY: as the caller vouches.
                unsafe { product.run(form) }
            }
        }
    }
}

/// Bytes of memory that the weights of a model take once it is loaded; of `mapped` ones only what is not in the file.
pub fn weights_bytes(blueprint: &Blueprint, mapped: bool, mode: ComputeMode) -> u64 {
    let layers = blueprint.spec.layers.iter().enumerate();
    let turned: usize = layers.map(|(number, layer)| turned_bytes(blueprint, number, &layer.mixer, mapped, mode)).sum();
    modules_bytes(blueprint.modules(), mapped, mode) + turned as u64
}

/// The same of some modules.
pub(super) fn modules_bytes(modules: &Modules, mapped: bool, mode: ComputeMode) -> u64 {
    let module = |module: &Module| {
        let bias = if module.bias { 4 * module.outputs } else { 0 };
        let matrix = match module.kind {
            ModuleKind::Norm | ModuleKind::CentredNorm | ModuleKind::Vector => 4 * module.outputs,
            ModuleKind::Embedding | ModuleKind::Linear if mapped => 0,
            ModuleKind::Embedding | ModuleKind::Linear => {
                matrix_bytes(module, module.parts * module.outputs.next_multiple_of(TILE), mode)
            }
        };
        matrix + bias
    };
    modules.iter().map(|(_, of)| module(of) as u64).sum()
}

/// Bytes of some rows of a matrix in tiles.
fn matrix_bytes(module: &Module, rows: usize, mode: ComputeMode) -> usize {
    let elements = rows * module.inputs;
    match module.storage {
        Storage::Dense(dtype) => elements * element_bytes(dtype),
        // Codes, and a scale and a bias per group of at most four bytes each.
        Storage::Affine(Quantization { bits, group_size }) | Storage::Packed(Quantization { bits, group_size }) => {
            elements * bits / 8 + elements / group_size * 8
        }
        // As `StoredMatrix` lays them out.
        Storage::Micro(format @ Microscaling::Mxfp4) => elements * MXFP4_BITS / 8 + elements / format.group_size() * 4,
        Storage::Micro(Microscaling::Nvfp4 | Microscaling::Mxfp8) => elements * 2,
        Storage::ScaledNvfp4 | Storage::Float8(_) => elements * widened(mode).bytes(),
    }
}

/// Bytes that a layer's turned weights take more than the rows that they are made of: of keys made of latents, where the
/// checkpoint has them in one matrix with the values.
fn turned_bytes(blueprint: &Blueprint, layer: usize, mixer: &MixerSpec, mapped: bool, mode: ComputeMode) -> usize {
    let MixerSpec::Latent(of) = mixer else { return 0 };
    let Ok(module) = blueprint.modules().get(&blueprint.layer_path(layer, "self_attn.kv_b_proj")) else { return 0 };
    let bytes = match module.storage {
        Storage::Dense(dtype) => element_bytes(dtype),
        _ => turned(None, mode).bytes(),
    };
    let rows = if mapped { 0 } else { matrix_bytes(module, of.heads * of.plain, mode) };
    (of.heads * of.rank.next_multiple_of(TILE) * of.plain * bytes).saturating_sub(rows)
}
