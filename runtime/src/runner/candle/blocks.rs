use super::error::device_error;
use super::gguf::{Encoded, Form, encode};
use crate::checkpoint::LoadError;
use crate::model::affine::AffineMatrix;
use candle_core::quantized::{QMatMul, QStorage, QTensor};
use candle_core::{D, Device, Module, Tensor};
use std::borrow::Cow;
use std::sync::Arc;

/// A quantised matrix on the device, `[outputs, inputs]`: GGUF blocks, and offsets where blocks have no minimum.
#[derive(Debug, Clone)]
pub(super) struct BlockMatrix {
    blocks: Arc<QTensor>,
    product: QMatMul,
    offsets: Option<Offsets>,
}

/// What [`Form::Q8_0`] leaves of the affine formula: one number per group.
#[derive(Debug, Clone)]
struct Offsets {
    /// f32 `[outputs, groups]`.
    values: Tensor,
    groups: usize,
    group_size: usize,
}

impl BlockMatrix {
    /// Builds it; `None` if f16 cannot hold a scale of the matrix.
    pub(super) fn new(
        matrix: &AffineMatrix<'_>,
        form: Form,
        device: &Device,
        path: &str,
    ) -> Result<Option<Self>, LoadError> {
        let Some(Encoded { bytes, offsets }) = encode(matrix, form)? else {
            return Ok(None);
        };
        let build = || -> candle_core::Result<Self> {
            let storage = QStorage::from_data(Cow::Owned(bytes), device, form.dtype())?;
            let blocks = Arc::new(QTensor::new(storage, (matrix.outputs, matrix.inputs))?);
            let groups = matrix.groups();
            let offsets = match offsets {
                None => None,
                Some(values) => Some(Offsets {
                    values: Tensor::from_vec(values, (matrix.outputs, groups), device)?,
                    groups,
                    group_size: matrix.quantization.group_size,
                }),
            };
            // The variant is named, because `QMatMul::from_arc` lets an environment variable dequantise everything.
            Ok(Self { product: QMatMul::QTensor(Arc::clone(&blocks)), blocks, offsets })
        };
        build().map(Some).map_err(device_error(path))
    }

    /// `x @ Wᵀ`: f32 `[tokens, inputs]` to f32 `[tokens, outputs]`.
    pub(super) fn product(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.product.forward(x)?;
        match &self.offsets {
            None => Ok(y),
            Some(offsets) => {
                let tokens = x.dim(0)?;
                let sums = x.reshape((tokens, offsets.groups, offsets.group_size))?.sum(D::Minus1)?;
                y + sums.matmul(&offsets.values.t()?)?
            }
        }
    }

    /// Dequantised rows: ids u32 `[tokens]` to f32 `[tokens, inputs]`.
    pub(super) fn rows(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        let rows = self.blocks.embedding(ids)?;
        match &self.offsets {
            None => Ok(rows),
            Some(offsets) => {
                let (tokens, inputs) = rows.dims2()?;
                let own = offsets.values.index_select(ids, 0)?.unsqueeze(2)?;
                rows.reshape((tokens, offsets.groups, offsets.group_size))?
                    .broadcast_add(&own)?
                    .reshape((tokens, inputs))
            }
        }
    }
}
