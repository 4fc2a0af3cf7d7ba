use super::record::PromptNumbers;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, serialize_to_file};
use std::path::Path;

/// A tensor to be written: name, type, shape, bytes.
pub type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Writes `logits.P` `[tokens, vocab]`, `greedy_ids.P` `[n]` and `greedy_logits.P` `[n, vocab]` for each prompt `P`.
/// Without a continuation the last two are left out.
///
/// # Errors
/// What the system or the format refuses.
pub fn write(path: &Path, numbers: &[PromptNumbers]) -> Result<(), SafeTensorError> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for prompt in numbers {
        let (name, vocab, n) = (&prompt.name, prompt.vocab, prompt.greedy_ids.len());
        let shape = vec![prompt.prompt_tokens(), vocab];
        tensors.push((format!("logits.{name}"), Dtype::F32, shape, floats(&prompt.logits)));
        if n > 0 {
            let ids = prompt.greedy_ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
            tensors.push((format!("greedy_ids.{name}"), Dtype::I64, vec![n], ids));
            tensors.push((format!("greedy_logits.{name}"), Dtype::F32, vec![n, vocab], floats(&prompt.greedy_logits)));
        }
    }
    write_tensors(path, &tensors)
}

/// Writes tensors as they are.
///
/// # Errors
/// What the system or the format refuses.
pub fn write_tensors(path: &Path, tensors: &[Tensor]) -> Result<(), SafeTensorError> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    serialize_to_file(views, None, path)
}
