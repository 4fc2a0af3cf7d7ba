use crate::model::config::ModelConfig;
use crate::model::family::{Family, Grouped, dense_mlp, window_by_type};

/// Qwen2 and Qwen2.5: biases on q, k and v, whatever the file says.
pub(in crate::model) const QWEN2: Family = Family {
    name: "qwen2",
    model_types: &["qwen2"],
    architectures: &["Qwen2ForCausalLM"],
    spec: |config| Grouped { qkv_bias: true, window, ..Grouped::PLAIN }.decoder(config, dense_mlp),
};

/// The window of a Qwen layer: only if `use_sliding_window` is set, and then from layer `max_window_layers` on.
pub(super) fn window(config: &ModelConfig, layer: usize) -> Option<usize> {
    if !config.use_sliding_window.unwrap_or(false) {
        return None;
    }
    let from = config.max_window_layers.unwrap_or(0);
    window_by_type(config, layer, config.sliding_window.filter(|_| layer >= from))
}
