use crate::checkpoint::{Checkpoint, Dtype, LoadError, Stored};
use crate::kernels::{AffineLayout, AffineRows, Float, Form, TILE, dense_tile_bytes, pack_dense_rows};
use crate::model::{Module, Storage};
use std::borrow::Cow;
use std::ops::Range;

/// How the tiles of a matrix are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    Affine(AffineLayout),
    Dense { kind: Float, k: usize },
}

impl Layout {
    pub(super) fn tile_bytes(&self) -> usize {
        match self {
            Self::Affine(layout) => layout.tile_bytes(),
            Self::Dense { kind, k } => dense_tile_bytes(*kind, *k),
        }
    }
}

/// A matrix as its checkpoint stores it: rows one after the other.
#[derive(Debug)]
pub(super) struct StoredMatrix {
    /// Rows.
    outputs: usize,
    /// Layout of the tiles that are made of it.
    pub(super) layout: Layout,
    /// Floats, or codes, scales and biases.
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Floats(Stored),
    Affine { codes: Stored, scales: Column, biases: Column },
}

/// A value per row and group.
#[derive(Debug)]
struct Column {
    bytes: Stored,
    kind: Float,
}

impl StoredMatrix {
    /// Finds the tensors of the module at `path`.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is not there or of another type.
    pub(super) fn find(checkpoint: &Checkpoint, module: &Module, path: &str) -> Result<Self, LoadError> {
        let stored = |name: &str| checkpoint.stored(&format!("{path}.{name}"));
        let column = |name: &str| {
            let key = format!("{path}.{name}");
            Ok(Column { bytes: checkpoint.stored(&key)?, kind: float_kind(&key, checkpoint.tensor(&key)?.dtype)? })
        };
        let (layout, parts) = match module.storage {
            Storage::Dense(dtype) => {
                let kind = float_kind(&format!("{path}.weight"), dtype)?;
                (Layout::Dense { kind, k: module.inputs }, Parts::Floats(stored("weight")?))
            }
            Storage::Affine(quantization) => {
                let (scales, biases) = (column("scales")?, column("biases")?);
                let layout = AffineLayout {
                    bits: quantization.bits,
                    group: quantization.group_size,
                    scales: if scales.kind == biases.kind { scales.kind } else { Float::F32 },
                    k: module.inputs,
                };
                (Layout::Affine(layout), Parts::Affine { codes: stored("weight")?, scales, biases })
            }
        };
        Ok(Self { outputs: module.outputs, layout, parts })
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
            (Layout::Affine(layout), Parts::Affine { codes, scales, biases }) => {
                let (scales, biases) = (
                    self.values(scales, rows.clone(), layout.scales),
                    self.values(biases, rows.clone(), layout.scales),
                );
                let rows = AffineRows { codes: self.rows_of(codes, rows), scales: &scales, biases: &biases };
                layout.pack_rows(form, &rows, place);
            }
            (Layout::Dense { kind, k }, Parts::Floats(floats)) => {
                pack_dense_rows(form, *kind, *k, self.rows_of(floats, rows), place);
            }
            (Layout::Affine(_), Parts::Floats(_)) | (Layout::Dense { .. }, Parts::Affine { .. }) => {
                unreachable!("layout and parts are made together")
            }
        }
    }

    /// Asks the system to read some tiles' rows from disk soon.
    pub(super) fn will_need(&self, tiles: Range<usize>) {
        let rows = self.rows(tiles);
        for tensor in self.tensors() {
            let row = tensor.len() / self.outputs.max(1);
            tensor.will_need(rows.start * row..rows.end * row);
        }
    }

    fn tensors(&self) -> impl Iterator<Item = &Stored> {
        let tensors = match &self.parts {
            Parts::Floats(floats) => [Some(floats), None, None],
            Parts::Affine { codes, scales, biases } => [Some(codes), Some(&scales.bytes), Some(&biases.bytes)],
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

fn float_kind(name: &str, dtype: Dtype) -> Result<Float, LoadError> {
    match dtype {
        Dtype::BF16 => Ok(Float::Bf16),
        Dtype::F16 => Ok(Float::F16),
        Dtype::F32 => Ok(Float::F32),
        other => Err(LoadError::quantization(format!("type of {name}"), format!("{other:?}"))),
    }
}
