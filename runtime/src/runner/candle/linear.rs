use super::blocks::BlockMatrix;
use candle_core::{DType, Result, Tensor};

/// A linear layer. Quantisation is a kind of weight, not another layer.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    pub(super) weight: LinearWeight,
    /// f32 `[outputs]`.
    pub(super) bias: Option<Tensor>,
}

/// The matrix of a linear layer, `[outputs, inputs]`.
#[derive(Debug, Clone)]
pub(super) enum LinearWeight {
    /// Floats: f32 on CPUs; on GPUs also f16 and bf16.
    Dense(Tensor),
    /// Blocks.
    Blocks(BlockMatrix),
}

impl Linear {
    /// f32 `[tokens, inputs]` to f32 `[tokens, outputs]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match &self.weight {
            LinearWeight::Blocks(blocks) => blocks.product(x)?,
            LinearWeight::Dense(weight) if weight.dtype() == DType::F32 => x.matmul(&weight.t()?)?,
            // Half the memory traffic for the weights; activations are small and are cast around the product.
            LinearWeight::Dense(weight) => x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(DType::F32)?,
        };
        match &self.bias {
            None => Ok(y),
            Some(bias) => y.broadcast_add(bias),
        }
    }
}
