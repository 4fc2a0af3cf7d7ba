use crate::checkpoint::{Checkpoint, LoadError};

/// How the keys of a checkpoint begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// What stands before `embed_tokens`, `layers.…` and `norm`: `model.`, `language_model.model.`, nothing, …
    pub(super) prefix: String,
    /// The head's path, if there is one.
    pub(super) head: Option<String>,
}

const EMBEDDING: &str = "embed_tokens.weight";

impl Keys {
    /// Detects the prefix from the key that ends in `embed_tokens.weight` and has layers beside it: an extra
    /// prediction layer carries an embedding of its own, and other towers have layers of theirs.
    pub(super) fn detect(checkpoint: &Checkpoint) -> Result<Self, LoadError> {
        let mut embeddings = Vec::new();
        let mut best: Option<&str> = None;
        for name in checkpoint.names() {
            let Some(prefix) = name.strip_suffix(EMBEDDING) else { continue };
            embeddings.push(name);
            let has_layers = checkpoint.get(&format!("{prefix}layers.0.input_layernorm.weight")).is_some();
            if has_layers && best.is_none_or(|best| prefix.len() < best.len()) {
                best = Some(prefix);
            }
        }
        let Some(prefix) = best else {
            return Err(match embeddings.first() {
                Some(name) => LoadError::invalid(*name, "no `layers.0.input_layernorm.weight` stands beside it"),
                None => LoadError::invalid(EMBEDDING, "no tensor's name ends like this"),
            });
        };
        let outer = prefix.strip_suffix("model.").unwrap_or(prefix);
        let candidates = [format!("{outer}lm_head"), "lm_head".to_owned(), format!("{prefix}lm_head")];
        let holds = |path: &str, name: &str| checkpoint.get(&format!("{path}.{name}")).is_some();
        let head = candidates.into_iter().find(|path| holds(path, "weight") || holds(path, "weight_packed"));
        Ok(Self { prefix: prefix.to_owned(), head })
    }

    /// The path of the module `name` below the prefix.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Whether a key that no layer asks for is known to be of no use: buffers that are computed, other towers, extra
/// prediction layers.
pub(super) fn is_skipped(name: &str, prefix: &str, num_layers: usize) -> bool {
    const TOWERS: [&str; 7] = [
        "vision_tower.",
        "vision_model.",
        "visual.",
        "multi_modal_projector.",
        "mm_projector.",
        "audio_tower.",
        "mtp.",
    ];
    if name.ends_with("rotary_emb.inv_freq") {
        return true;
    }
    let inner = name.strip_prefix("model.").unwrap_or(name);
    if TOWERS.iter().any(|tower| name.starts_with(tower) || inner.starts_with(tower)) {
        return true;
    }
    let layer = name
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix("layers."))
        .and_then(|rest| rest.split('.').next())
        .and_then(|number| number.parse::<usize>().ok());
    layer.is_some_and(|layer| layer >= num_layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_other_towers_and_extra_layers_are_skipped_and_nothing_else() {
        let skipped = |name| is_skipped(name, "model.", 2);
        assert!(skipped("model.layers.0.self_attn.rotary_emb.inv_freq"));
        assert!(skipped("vision_tower.layers.0.weight"));
        assert!(skipped("model.visual.patch_embed.weight"));
        assert!(skipped("model.layers.2.eh_proj.weight"));
        assert!(!skipped("model.layers.1.self_attn.k_proj.bias"));
        assert!(!skipped("score.weight"));
    }
}
