//! What a model is served with: one YAML file each, shipped in the binary, overridden by name from a user's folder.

mod effective;
mod formats;
mod library;
mod preset;

pub use effective::EffectivePreset;
pub use formats::Formats;
pub use library::{Presets, ResolveError, UnknownPreset};
pub use preset::{Preset, schema};
