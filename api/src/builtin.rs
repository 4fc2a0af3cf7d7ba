//! The model inside the program: small, always there.

use lmx_runtime::checkpoint::{EmbeddedFiles, Source};

/// Its name in requests.
pub const ID: &str = "builtin";

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../presets/builtin/model/", $name)))),+]
    };
}

const FILES: EmbeddedFiles = files![
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// Where it comes from.
pub fn source() -> Source {
    Source::Embedded { id: ID.to_owned(), files: FILES }
}
