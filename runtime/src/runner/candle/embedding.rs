use super::linear::LinearWeight;
use candle_core::{DType, Result, Tensor};

/// The embedding matrix, `[vocab, hidden]`: rows are gathered, then widened; the matrix itself never is.
#[derive(Debug, Clone)]
pub(super) struct Embedding(pub(super) LinearWeight);

impl Embedding {
    /// Ids u32 `[tokens]` to f32 `[tokens, hidden]`.
    pub(super) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        match &self.0 {
            LinearWeight::Dense(table) => table.index_select(ids, 0)?.to_dtype(DType::F32),
            LinearWeight::Blocks(blocks) => blocks.rows(ids),
        }
    }
}
