//! What a model is served with: one YAML file each, shipped in the binary, overridden by name from a user's folder.

mod effective;
mod library;
mod preset;

pub use effective::EffectivePreset;
pub use library::{Presets, ResolveError, UnknownPreset};
pub use preset::{Preset, schema};
