use crate::checkpoint::{Checkpoint, Dtype, LoadError, Stored};
use crate::config::ComputeMode;
use crate::kernels::{
    AffineLayout, AffineRows, Float, Form, TILE, WordLayout, dense_tile_bytes, pack_dense_rows, pack_word_rows,
    word_tile_bytes,
};
use crate::model::affine::{centre, unpack};
use crate::model::micro::{MicroMatrix, e4m3, e8m0, twice_e2m1};
use crate::model::{Float8, Microscaling, Module, Quantization, Storage, Weight};
use std::borrow::Cow;
use std::ops::Range;

/// How the tiles of a matrix are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    Affine(AffineLayout),
    Dense {
        kind: Float,
        k: usize,
    },
    /// Floats that are rounded to words.
    Words {
        layout: WordLayout,
        k: usize,
    },
}

impl Layout {
    pub(super) fn tile_bytes(&self) -> usize {
        match self {
            Self::Affine(layout) => layout.tile_bytes(),
            Self::Dense { kind, k } => dense_tile_bytes(*kind, *k),
            Self::Words { k, .. } => word_tile_bytes(*k),
        }
    }
}

/// A matrix as its checkpoint stores it: rows one after the other.
#[derive(Debug, Clone)]
pub(super) struct StoredMatrix {
    /// Rows.
    outputs: usize,
    /// Columns.
    inputs: usize,
    /// Layout of the tiles that are made of it.
    pub(super) layout: Layout,
    /// Floats, or codes, scales and biases.
    parts: Parts,
}

#[derive(Debug, Clone)]
enum Parts {
    Floats {
        floats: Stored,
        kind: Float,
    },
    Affine {
        codes: Stored,
        scales: Column,
        /// None: the middle code is zero.
        biases: Option<Column>,
        bits: usize,
        group: usize,
    },
    Micro {
        format: Microscaling,
        codes: Stored,
        scales: Stored,
        factor: f32,
    },
    /// The scales are those of the whole matrix, of which this one's rows begin at `first`: a block may begin before them.
    Float8 {
        format: Float8,
        codes: Stored,
        scales: Column,
        first: usize,
    },
    /// The columns are the rows of another matrix.
    Turned(Box<StoredMatrix>),
}

/// Width of the affine codes that `mxfp4` becomes. Twice its values are the whole numbers from -12 to 12, so that
/// `value = scale / 2 * (code - 12)` holds exactly.
pub(super) const MXFP4_BITS: usize = 5;
const MXFP4_ZERO: i8 = 12;

/// Whether floats with as many inputs can be rounded to words.
pub(super) fn rounds(inputs: usize) -> bool {
    inputs.is_multiple_of(TILE)
}

/// A value per row and group.
#[derive(Debug, Clone)]
struct Column {
    bytes: Stored,
    kind: Float,
}

impl Column {
    /// Type of the tiles of float8 weights with these scales. Float16 has three digits more than bfloat16, but not the range
    /// of any scale.
    fn of_float8(&self, mode: ComputeMode) -> Float {
        let scales = (0..self.bytes.len() / self.kind.bytes()).map(|i| self.kind.read(&self.bytes, i));
        let mut largest = scales.map(|scale| LARGEST_E4M3 * scale.abs()).filter(|largest| *largest > 0.0);
        match widened(mode) {
            // What is subnormal is still no further off than a digit of the block's largest weight.
            Float::Bf16 if largest.all(|largest| (HALF_DIGITS..=half::f16::MAX.to_f32()).contains(&largest)) => {
                Float::F16
            }
            kind => kind,
        }
    }
}

/// The largest e4m3 number.
const LARGEST_E4M3: f32 = 448.0;
/// Float16 numbers are `2^-24` apart or more, and have eleven digits.
const HALF_DIGITS: f32 = 1.0 / (1 << 13) as f32;

impl StoredMatrix {
    /// Finds the tensors of the module at `path`, or of one part of it.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is not there or of another type.
    pub(super) fn find(
        checkpoint: &Checkpoint,
        module: &Module,
        path: &str,
        part: usize,
        mode: ComputeMode,
    ) -> Result<Self, LoadError> {
        let stored = |name: &str| {
            let whole = checkpoint.stored(&format!("{path}.{name}"))?;
            let size = whole.len() / module.parts;
            Ok::<_, LoadError>(whole.slice(part * size..(part + 1) * size))
        };
        let column = |name: &str| {
            let key = format!("{path}.{name}");
            Ok(Column { bytes: stored(name)?, kind: float_kind(&key, checkpoint.tensor(&key)?.dtype)? })
        };
        let k = module.inputs;
        let (layout, parts) = match module.storage {
            Storage::Dense(dtype) => {
                let kind = float_kind(&format!("{path}.weight"), dtype)?;
                (Layout::Dense { kind, k }, Parts::Floats { floats: stored("weight")?, kind })
            }
            Storage::Affine(Quantization { bits, group_size: group }) => {
                let (scales, biases) = (column("scales")?, column("biases")?);
                let kind = if scales.kind == biases.kind { scales.kind } else { Float::F32 };
                let layout = AffineLayout { bits, group, scales: kind, k };
                let biases = Some(biases);
                (Layout::Affine(layout), Parts::Affine { codes: stored("weight")?, scales, biases, bits, group })
            }
            Storage::Packed(Quantization { bits, group_size: group }) => {
                let (codes, scales) = (stored("weight_packed")?, column("weight_scale")?);
                let kind = match scales.kind {
                    // Its range may be too small for the biases.
                    Float::F16 => Float::F32,
                    kind @ (Float::Bf16 | Float::F32) => kind,
                };
                let layout = AffineLayout { bits, group, scales: kind, k };
                (Layout::Affine(layout), Parts::Affine { codes, scales, biases: None, bits, group })
            }
            Storage::Micro(format) => {
                let layout = match format {
                    Microscaling::Mxfp4 => Layout::Affine(AffineLayout {
                        bits: MXFP4_BITS,
                        group: format.group_size(),
                        scales: Float::Bf16,
                        k,
                    }),
                    // Groups of 16 are none of the kernels', and e4m3 has no equal steps: bfloat16 holds all their values.
                    Microscaling::Nvfp4 | Microscaling::Mxfp8 => Layout::Dense { kind: Float::Bf16, k },
                };
                (layout, Parts::Micro { format, codes: stored("weight")?, scales: stored("scales")?, factor: 1.0 })
            }
            Storage::ScaledNvfp4 => {
                let Weight::Micro(MicroMatrix { format, factor, .. }) = module.weight(checkpoint, path, part)? else {
                    unreachable!("the storage of small floats")
                };
                let (codes, scales) = (stored("weight")?, stored("scales")?);
                (Layout::Dense { kind: widened(mode), k }, Parts::Micro { format, codes, scales, factor })
            }
            Storage::Float8(format) => {
                let (codes, scales) = (stored("weight")?, column("weight_scale_inv")?);
                (Layout::Dense { kind: scales.of_float8(mode), k }, Parts::Float8 { format, codes, scales, first: 0 })
            }
        };
        Ok(Self { outputs: module.outputs, inputs: k, layout, parts })
    }

    /// Some of its rows.
    pub(super) fn some_rows(&self, rows: Range<usize>) -> Self {
        let cut = |tensor: &Stored| {
            let row = tensor.len() / self.outputs.max(1);
            tensor.slice(rows.start * row..rows.end * row)
        };
        let column = |of: &Column| Column { bytes: cut(&of.bytes), kind: of.kind };
        let parts = match &self.parts {
            Parts::Floats { floats, kind } => Parts::Floats { floats: cut(floats), kind: *kind },
            Parts::Affine { codes, scales, biases, bits, group } => Parts::Affine {
                codes: cut(codes),
                scales: column(scales),
                biases: biases.as_ref().map(column),
                bits: *bits,
                group: *group,
            },
            Parts::Micro { format, codes, scales, factor } => {
                Parts::Micro { format: *format, codes: cut(codes), scales: cut(scales), factor: *factor }
            }
            Parts::Float8 { format, codes, scales, first } => {
                let first = first + rows.start;
                Parts::Float8 { format: *format, codes: cut(codes), scales: scales.clone(), first }
            }
            Parts::Turned(_) => unreachable!("rows are taken before they are turned"),
        };
        Self { outputs: rows.len(), inputs: self.inputs, layout: self.layout, parts }
    }

    /// The matrix whose columns are some of its rows. Groups do not survive the turn: what is quantised becomes floats.
    pub(super) fn rows_as_columns(&self, rows: Range<usize>, mode: ComputeMode) -> Self {
        let source = self.some_rows(rows);
        let own = if let Parts::Floats { kind, .. } = source.parts { Some(kind) } else { None };
        let kind = turned(own, mode);
        let layout = Layout::Dense { kind, k: source.outputs };
        Self { outputs: source.inputs, inputs: source.outputs, layout, parts: Parts::Turned(Box::new(source)) }
    }

    /// The same with floats rounded to words, if it has floats, as `form` multiplies them the fastest.
    pub(super) fn rounded(self, form: Form) -> Self {
        let k = self.inputs;
        match self.parts {
            Parts::Floats { .. } if rounds(k) => {
                Self { layout: Layout::Words { layout: WordLayout::of(form, k), k }, ..self }
            }
            _ => self,
        }
    }

    /// Whether its tiles are costly to make: they gather columns, or round.
    pub(super) fn is_turned(&self) -> bool {
        matches!(self.layout, Layout::Words { .. }) || matches!(self.parts, Parts::Turned(_))
    }

    /// How many tiles it makes. Rows beyond its last one are zero.
    pub(super) fn tiles(&self) -> usize {
        self.outputs.div_ceil(TILE)
    }

    /// Bytes in the checkpoint.
    pub(super) fn bytes(&self) -> usize {
        self.tensors().map(|tensor| tensor.len()).sum()
    }

    /// Bytes in the checkpoint of some tiles' rows.
    pub(super) fn bytes_of(&self, tiles: Range<usize>) -> usize {
        self.bytes() / self.outputs.max(1) * self.rows(tiles).len()
    }

    /// Makes one tile.
    pub(super) fn pack(&self, form: Form, tile: usize, place: &mut [u8]) {
        let rows = self.rows(tile..tile + 1);
        match (&self.layout, &self.parts) {
            (Layout::Affine(layout), Parts::Affine { codes, scales, biases, bits, .. }) => {
                let scales = self.values(scales, rows.clone(), layout.scales);
                let biases = match biases {
                    Some(biases) => self.values(biases, rows.clone(), layout.scales),
                    None => Cow::Owned(centred(&scales, layout.scales, *bits)),
                };
                let rows = AffineRows { codes: self.rows_of(codes, rows), scales: &scales, biases: &biases };
                layout.pack_rows(form, &rows, place);
            }
            (Layout::Dense { kind, k }, Parts::Floats { floats, .. }) => {
                pack_dense_rows(form, *kind, *k, self.rows_of(floats, rows), place);
            }
            (Layout::Affine(layout), Parts::Micro { codes, scales, .. }) => {
                let codes = affine_codes(self.rows_of(codes, rows.clone()));
                let (scales, biases) = affine_scales(self.rows_of(scales, rows));
                layout.pack_rows(form, &AffineRows { codes: &codes, scales: &scales, biases: &biases }, place);
            }
            (Layout::Dense { kind, k }, Parts::Micro { format, codes, scales, factor }) => {
                let (mut values, mut bytes) = (vec![0.0; *k], vec![0; rows.len() * k * kind.bytes()]);
                for (row, bytes) in rows.zip(bytes.chunks_exact_mut(k * kind.bytes())) {
                    let row = row..row + 1;
                    let (codes, scales) = (self.rows_of(codes, row.clone()), self.rows_of(scales, row));
                    format.dequantize_row(codes, scales, *factor, &mut values);
                    kind.write_all(bytes, &values);
                }
                pack_dense_rows(form, *kind, *k, &bytes, place);
            }
            (Layout::Dense { kind, k }, Parts::Float8 { format, codes, scales, first }) => {
                let (mut values, mut bytes) = (vec![0.0; *k], vec![0; rows.len() * k * kind.bytes()]);
                let mut row_scales = vec![0.0; format.scales(1, *k)[1]];
                for (row, bytes) in rows.zip(bytes.chunks_exact_mut(k * kind.bytes())) {
                    let at = format.scale_row(first + row) * row_scales.len();
                    row_scales.iter_mut().zip(at..).for_each(|(to, i)| *to = scales.kind.read(&scales.bytes, i));
                    format.dequantize_row(self.rows_of(codes, row..row + 1), &row_scales, &mut values);
                    kind.write_all(bytes, &values);
                }
                pack_dense_rows(form, *kind, *k, &bytes, place);
            }
            (Layout::Dense { kind, k }, Parts::Turned(source)) => {
                let mut bytes = vec![0; rows.len() * k * kind.bytes()];
                let mut values = [0.0; TILE];
                for column in 0..*k {
                    let values = &mut values[..rows.len()];
                    source.widen(column, rows.start, values);
                    for (row, value) in values.iter().enumerate() {
                        kind.write(&mut bytes, row * k + column, *value);
                    }
                }
                pack_dense_rows(form, *kind, *k, &bytes, place);
            }
            (Layout::Words { layout, k }, Parts::Floats { floats, kind }) => {
                pack_word_rows(*layout, *kind, *k, self.rows_of(floats, rows), place);
            }
            (Layout::Affine(_), Parts::Floats { .. } | Parts::Float8 { .. } | Parts::Turned(_))
            | (Layout::Dense { .. }, Parts::Affine { .. })
            | (Layout::Words { .. }, _) => {
                unreachable!("layout and parts are made together")
            }
        }
    }

    /// Widens some elements of a row: from column `first`, a multiple of sixteen, as many as there are places.
    fn widen(&self, row: usize, first: usize, out: &mut [f32]) {
        let rows = row..row + 1;
        match &self.parts {
            Parts::Floats { floats, kind } => {
                let floats = self.rows_of(floats, rows);
                out.iter_mut().enumerate().for_each(|(i, to)| *to = kind.read(floats, first + i));
            }
            Parts::Affine { codes, scales, biases, bits, group } => {
                let (codes, number) = (self.rows_of(codes, rows.clone()), first / group);
                let scale = scales.kind.read(self.rows_of(&scales.bytes, rows.clone()), number);
                let bias = match biases {
                    Some(biases) => biases.kind.read(self.rows_of(&biases.bytes, rows), number),
                    None => -centre(*bits) * scale,
                };
                let mut unpacked = [0; TILE];
                unpack(&codes[first * bits / 8..(first + TILE) * bits / 8], *bits, &mut unpacked);
                out.iter_mut().zip(unpacked).for_each(|(to, code)| *to = f32::from(code) * scale + bias);
            }
            Parts::Micro { format, codes, scales, factor } => {
                let mut whole = vec![0.0; self.inputs];
                let (codes, scales) = (self.rows_of(codes, rows.clone()), self.rows_of(scales, rows));
                format.dequantize_row(codes, scales, *factor, &mut whole);
                out.copy_from_slice(&whole[first..first + out.len()]);
            }
            Parts::Float8 { format, codes, scales, first: before } => {
                let codes = &self.rows_of(codes, rows)[first..];
                let at = format.scale_row(before + row) * format.scales(1, self.inputs)[1];
                for ((out, code), column) in out.iter_mut().zip(codes).zip(first..) {
                    *out = e4m3(*code) * scales.kind.read(&scales.bytes, at + format.scale_column(column));
                }
            }
            Parts::Turned(_) => unreachable!("what is turned is not turned again"),
        }
    }

    /// Asks the system to read some tiles' rows from disk soon.
    pub(super) fn will_need(&self, tiles: Range<usize>) {
        if let Parts::Turned(source) = &self.parts {
            return source.will_need(0..source.tiles());
        }
        let rows = self.rows(tiles);
        for tensor in self.tensors() {
            let row = tensor.len() / self.outputs.max(1);
            tensor.will_need(rows.start * row..rows.end * row);
        }
    }

    fn tensors(&self) -> impl Iterator<Item = &Stored> {
        let parts = match &self.parts {
            Parts::Turned(source) => &source.parts,
            parts => parts,
        };
        let tensors = match parts {
            Parts::Floats { floats, .. } => [Some(floats), None, None],
            Parts::Affine { codes, scales, biases, .. } => {
                [Some(codes), Some(&scales.bytes), biases.as_ref().map(|of| &of.bytes)]
            }
            Parts::Micro { codes, scales, .. } => [Some(codes), Some(scales), None],
            // The scales were read when they were checked.
            Parts::Float8 { codes, .. } => [Some(codes), None, None],
            Parts::Turned(_) => [None; 3],
        };
        tensors.into_iter().flatten()
    }

    fn rows(&self, tiles: Range<usize>) -> Range<usize> {
        tiles.start * TILE..self.outputs.min(tiles.end * TILE)
    }

    fn rows_of<'a>(&self, tensor: &'a Stored, rows: Range<usize>) -> &'a [u8] {
        let row = tensor.len() / self.outputs.max(1);
        &tensor[rows.start * row..rows.end * row]
    }

    /// Some rows' values in type `kind`: their own, or float32.
    fn values<'a>(&self, column: &'a Column, rows: Range<usize>, kind: Float) -> Cow<'a, [u8]> {
        let stored = self.rows_of(&column.bytes, rows);
        if column.kind == kind {
            return Cow::Borrowed(stored);
        }
        let values = stored.len() / column.kind.bytes();
        let mut widened = vec![0; values * kind.bytes()];
        (0..values).for_each(|i| kind.write(&mut widened, i, column.kind.read(stored, i)));
        Cow::Owned(widened)
    }
}

/// Biases that make the middle code zero.
fn centred(scales: &[u8], kind: Float, bits: usize) -> Vec<u8> {
    let mut biases = vec![0; scales.len()];
    (0..scales.len() / kind.bytes()).for_each(|i| kind.write(&mut biases, i, -centre(bits) * kind.read(scales, i)));
    biases
}

/// Rows of e2m1 codes as rows of five-bit codes, each a little-endian bit stream.
fn affine_codes(codes: &[u8]) -> Vec<u8> {
    let code = |code: u8| (twice_e2m1(code) + MXFP4_ZERO).cast_unsigned();
    let table: [u8; 16] = std::array::from_fn(|i| code(i as u8));
    let mut out = Vec::with_capacity(codes.len() / 4 * MXFP4_BITS);
    for eight in codes.as_chunks::<4>().0 {
        let word = u32::from_le_bytes(*eight);
        let stream = (0..8)
            .fold(0_u64, |stream, i| stream | u64::from(table[(word >> (4 * i) & 15) as usize]) << (MXFP4_BITS * i));
        out.extend_from_slice(&stream.to_le_bytes()[..MXFP4_BITS]);
    }
    out
}

/// Scales and biases of [`affine_codes`], bfloat16: powers of two, and -12 times as much.
fn affine_scales(scales: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut to, mut biases) = (vec![0; 2 * scales.len()], vec![0; 2 * scales.len()]);
    for (i, byte) in scales.iter().enumerate() {
        let half = e8m0(*byte) * 0.5;
        Float::Bf16.write(&mut to, i, half);
        Float::Bf16.write(&mut biases, i, -f32::from(MXFP4_ZERO) * half);
    }
    (to, biases)
}

/// Type of weights that are turned when they are loaded: their own, or one that holds what was quantised.
pub(super) fn turned(own: Option<Float>, mode: ComputeMode) -> Float {
    match (own, mode) {
        (Some(own), _) => own,
        (None, ComputeMode::F32) => Float::F32,
        (None, ComputeMode::Int8 | ComputeMode::Int16) => Float::F16,
    }
}

/// Type of the tiles of weights whose values have more digits than bfloat16, and that no kernel multiplies as they are.
pub(super) fn widened(mode: ComputeMode) -> Float {
    match mode {
        ComputeMode::F32 => Float::F32,
        ComputeMode::Int8 | ComputeMode::Int16 => Float::Bf16,
    }
}

fn float_kind(name: &str, dtype: Dtype) -> Result<Float, LoadError> {
    match dtype {
        Dtype::BF16 => Ok(Float::Bf16),
        Dtype::F16 => Ok(Float::F16),
        Dtype::F32 => Ok(Float::F32),
        other => Err(LoadError::quantization(format!("type of {name}"), format!("{other:?}"))),
    }
}
