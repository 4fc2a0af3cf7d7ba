//! What an encoder is: a model that turns whole texts into vectors or scores instead of continuing them.

mod blueprint;
mod config;
mod families;
mod head;
mod names;
mod spec;
mod task;

pub use blueprint::{EncoderBlueprint, HeadWeights};
pub use head::{Activation, HeadSpec, Pooling};
pub use names::EncoderNames;
pub use spec::{
    EncoderAttention, EncoderLayer, EncoderMlp, EncoderSpec, InputSpec, MlpActivation, NormKind, NormOrder,
    PositionSpec,
};
pub use task::EncoderTask;
