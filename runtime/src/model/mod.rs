//! What a model is, told from its checkpoint: configuration, family, layers, weight names, quantisation.
//!
//! Nothing here computes a forward pass or holds weights: [`Blueprint::read`] checks a checkpoint against its own
//! configuration, and an executor builds from the [`Blueprint`].

pub mod affine;
mod blueprint;
mod config;
pub mod encoder;
mod facts;
mod families;
mod family;
pub mod float8;
mod keys;
pub mod micro;
mod module;
mod quantization;
mod rope;
mod spec;
mod survey;

pub use blueprint::Blueprint;
pub use config::{ModelConfig, SamplingAdvice};
pub use facts::{ExpertFacts, ModelFacts, WeightFacts};
pub use family::Family;
pub use float8::Float8;
pub use micro::Microscaling;
pub use module::{Module, ModuleKind, Modules, Storage, Weight};
pub use quantization::{Quantization, QuantizationMap, Setting};
pub use rope::{RopePairs, RopeScaling, RopeSpec};
pub use spec::{
    AttentionSpec, DELTA_NORM_EPS, DecoderSpec, DeltaSpec, ExpertGroups, FeedForwardSpec, IndexerSpec, LATENT_NORM_EPS,
    LatentSpec, LayerSpec, MixerSpec, MlpSpec, OUT_NORMS, QkNorm, QueryGrowth, RoutedNames, RoutedSpec, RouterSpec,
    Scoring, SharedSpec, SparseSpec,
};
