use super::buffers::Preparation;
use super::memory::HugeBytes;
use crate::checkpoint::{Dtype, LoadError, TensorView, element_bytes};
use crate::config::ComputeMode;
use crate::kernels::{
    Activations, AffineLayout, AffineTiles, DenseProduct, Encoding, Float, Form, Product, TILE, add, dense_tile_bytes,
    pack_dense, unpack_dense_row,
};
use crate::model::affine::AffineMatrix;
use crate::model::{Blueprint, Module, ModuleKind, Quantization, Storage};
use std::ops::Range;

/// A matrix in tiles of sixteen rows, as the kernels read it. Rows beyond the last one are zero.
#[derive(Debug)]
pub(super) struct Matrix {
    /// Rows.
    pub(super) outputs: usize,
    /// Columns.
    pub(super) inputs: usize,
    form: MatrixForm,
    bytes: HugeBytes,
}

#[derive(Debug, Clone, Copy)]
enum MatrixForm {
    Affine(AffineLayout),
    Dense(Float),
}

/// A matrix and what is added to each output.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    /// `[outputs]`.
    pub(super) bias: Option<Vec<f32>>,
}

impl Linear {
    /// Adds the bias, if there is one, to a row of outputs.
    pub(super) fn add_bias(&self, row: &mut [f32]) {
        if let Some(bias) = &self.bias {
            add(row, bias);
        }
    }
}

/// The rows that a product reads: floats, or prepared for the groups of quantised weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs {
    /// `[rows, stride]`.
    pub(super) floats: *const f32,
    pub(super) stride: usize,
    /// In the groups of the weights, if they are quantised.
    pub(super) prepared: Option<Activations>,
}

impl Matrix {
    /// Rearranges a quantised matrix, tiles in parallel.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if scales are of no float type, [`LoadError::InsufficientMemory`].
    pub(super) fn affine(matrix: &AffineMatrix<'_>, path: &str, threads: usize) -> Result<Self, LoadError> {
        let layout = AffineLayout {
            bits: matrix.quantization.bits,
            group: matrix.quantization.group_size,
            scales: scale_kind(matrix.scales.dtype, matrix.biases.dtype),
            k: matrix.inputs,
        };
        let groups = matrix.groups();
        Self::fill(matrix.outputs, matrix.inputs, MatrixForm::Affine(layout), path, threads, |rows, tile| {
            let mut codes = vec![0; TILE * matrix.inputs];
            let (mut scales, mut biases) = (vec![0.0; TILE * groups], vec![0.0; TILE * groups]);
            for (place, row) in rows.enumerate() {
                matrix.codes_of(row, &mut codes[place * matrix.inputs..][..matrix.inputs]);
                let range = place * groups..(place + 1) * groups;
                matrix.scales_of(row, &mut scales[range.clone()], &mut biases[range])?;
            }
            layout.pack(&codes, &scales, &biases, tile);
            Ok(())
        })
    }
}

impl Matrix {
    /// Rearranges a matrix of floats, in their stored type.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if they are no floats, [`LoadError::InsufficientMemory`].
    pub(super) fn dense(
        tensor: TensorView<'_>,
        outputs: usize,
        inputs: usize,
        path: &str,
        threads: usize,
    ) -> Result<Self, LoadError> {
        let kind = float_kind(tensor)?;
        let row_bytes = inputs * kind.bytes();
        Self::fill(outputs, inputs, MatrixForm::Dense(kind), path, threads, |rows, tile| {
            let stored = &tensor.data[rows.start * row_bytes..rows.end * row_bytes];
            let mut padded = vec![0; TILE * row_bytes];
            padded[..stored.len()].copy_from_slice(stored);
            pack_dense(kind, inputs, &padded, tile);
            Ok(())
        })
    }

    /// Makes all tiles: `pack` gets the rows of a tile and its place.
    fn fill(
        outputs: usize,
        inputs: usize,
        form: MatrixForm,
        path: &str,
        threads: usize,
        pack: impl Fn(Range<usize>, &mut [u8]) -> Result<(), LoadError> + Sync,
    ) -> Result<Self, LoadError> {
        let tile_bytes = form.tile_bytes(inputs);
        let tiles = outputs.div_ceil(TILE);
        let mut bytes = HugeBytes::new(tiles * tile_bytes)
            .map_err(|error| LoadError::Device { what: path.to_owned(), message: error.to_string() })?;
        let share = tiles.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let parts = bytes.as_mut_slice().chunks_mut(share * tile_bytes).enumerate();
            let handles: Vec<_> = parts
                .map(|(part, places)| {
                    let pack = &pack;
                    scope.spawn(move || {
                        for (i, place) in places.chunks_exact_mut(tile_bytes).enumerate() {
                            let first = (part * share + i) * TILE;
                            pack(first..outputs.min(first + TILE), place)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            handles.into_iter().try_for_each(|handle| match handle.join() {
                Ok(result) => result,
                Err(payload) => std::panic::resume_unwind(payload),
            })
        })?;
        Ok(Self { outputs, inputs, form, bytes })
    }

    /// How many tiles of sixteen outputs there are.
    pub(super) fn tiles(&self) -> usize {
        self.outputs.div_ceil(TILE)
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.as_slice().len()
    }

    /// What its inputs must be prepared for; `None` if it reads floats.
    pub(super) fn preparation(&self, form: Form, mode: ComputeMode) -> Option<Preparation> {
        match &self.form {
            MatrixForm::Affine(layout) => {
                Some(Preparation { group: layout.group, encoding: Encoding::of(form, mode, layout.bits) })
            }
            MatrixForm::Dense(_) => None,
        }
    }

    /// Widens row `row` to `out`, `[inputs]`.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        let tile_bytes = self.form.tile_bytes(self.inputs);
        let tile = &self.bytes.as_slice()[row / TILE * tile_bytes..][..tile_bytes];
        match &self.form {
            MatrixForm::Affine(layout) => layout.unpack_row(tile, row % TILE, out),
            MatrixForm::Dense(kind) => unpack_dense_row(*kind, tile, row % TILE, out),
        }
    }

    /// Computes `out[row][16 t..]` for some tiles `t` and all of `rows`.
    ///
    /// # Safety
    /// The inputs are prepared by `form`, and readable, the places of `out` writable and used by nobody else.
    pub(super) unsafe fn product(
        &self,
        form: Form,
        tiles: Range<usize>,
        inputs: &Inputs,
        rows: Range<usize>,
        out: *mut f32,
        stride: usize,
    ) {
        match &self.form {
            MatrixForm::Affine(layout) => {
                let x = inputs.prepared.expect("inputs of quantised weights are prepared");
                let weights = AffineTiles { layout: *layout, bytes: self.bytes.as_slice() };
                let product = Product { weights, tiles, x, rows, out, stride };
                // SAFETY: as the caller vouches.
                unsafe { product.run(form) }
            }
            MatrixForm::Dense(kind) => {
                let product = DenseProduct {
                    kind: *kind,
                    k: self.inputs,
                    weights: self.bytes.as_slice(),
                    tiles,
                    x: inputs.floats,
                    x_stride: inputs.stride,
                    rows,
                    out,
                    stride,
                };
                // SAFETY: as the caller vouches.
                unsafe { product.run(form) }
            }
        }
    }
}

/// Bytes that the weights of a model take once they are rearranged.
pub fn weights_bytes(blueprint: &Blueprint) -> u64 {
    let module = |module: &Module| {
        let bias = if module.bias { 4 * module.outputs } else { 0 };
        let elements = module.outputs.next_multiple_of(TILE) * module.inputs;
        let matrix = match module.storage {
            _ if module.kind == ModuleKind::Norm => 4 * module.outputs,
            Storage::Dense(dtype) => elements * element_bytes(dtype),
            // Codes, and a scale and a bias per group of at most four bytes each.
            Storage::Affine(Quantization { bits, group_size }) => elements * bits / 8 + elements / group_size * 8,
        };
        (matrix + bias) as u64
    };
    blueprint.modules().map(|(_, of)| module(of)).sum()
}

impl MatrixForm {
    fn tile_bytes(&self, inputs: usize) -> usize {
        match self {
            Self::Affine(layout) => layout.tile_bytes(),
            Self::Dense(kind) => dense_tile_bytes(*kind, inputs),
        }
    }
}

fn scale_kind(scales: Dtype, biases: Dtype) -> Float {
    match (scales, biases) {
        (Dtype::BF16, Dtype::BF16) => Float::Bf16,
        (Dtype::F16, Dtype::F16) => Float::F16,
        _ => Float::F32,
    }
}

fn float_kind(tensor: TensorView<'_>) -> Result<Float, LoadError> {
    match tensor.dtype {
        Dtype::BF16 => Ok(Float::Bf16),
        Dtype::F16 => Ok(Float::F16),
        Dtype::F32 => Ok(Float::F32),
        other => Err(LoadError::quantization(format!("type of {}", tensor.name), format!("{other:?}"))),
    }
}
