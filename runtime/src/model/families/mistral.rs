use crate::model::family::{Family, Grouped, dense_mlp, window_by_type};

/// Mistral, Mistral Nemo and Small, Devstral 1. `sliding_window`, where it is set, holds for every layer.
pub(in crate::model) const MISTRAL: Family = Family {
    name: "mistral",
    model_types: &["mistral"],
    architectures: &["MistralForCausalLM"],
    spec: |config| MISTRAL_LAYERS.decoder(config, dense_mlp),
};

/// Devstral 2 and the text model of Mistral 3: queries grow beyond the training context, where the file says so.
pub(in crate::model) const MINISTRAL3: Family = Family {
    name: "ministral3",
    model_types: &["ministral3"],
    architectures: &["Ministral3ForCausalLM"],
    spec: |config| MISTRAL_LAYERS.decoder(config, dense_mlp),
};

const MISTRAL_LAYERS: Grouped =
    Grouped { window: |config, layer| window_by_type(config, layer, config.sliding_window), ..Grouped::PLAIN };
