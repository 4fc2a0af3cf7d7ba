use candle_core::{Result, Tensor};

/// `w * x / sqrt(mean(x²) + eps)` over the last dimension, in f32.
#[derive(Debug, Clone)]
pub(super) struct RmsNorm {
    /// f32 `[width]`.
    pub(super) weight: Tensor,
    pub(super) eps: f32,
}

impl RmsNorm {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::rms_norm(x, &self.weight, self.eps)
    }
}
