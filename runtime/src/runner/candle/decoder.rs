use super::attention::Attention;
use super::delta::DeltaNet;
use super::embedding::Embedding;
use super::indexer::Chosen;
use super::kv_memory::KvMemory;
use super::latent::LatentAttention;
use super::linear::Linear;
use super::load::Loader;
use super::memory::{kv_bytes_per_token, kv_dtype};
use super::mlp::{GatedMlp, RoutedMlp};
use super::norm::RmsNorm;
use super::report::LoadReport;
use super::step::Step;
use crate::checkpoint::{Checkpoint, LoadError};
use crate::config::ComputeMode;
use crate::model::{Blueprint, DecoderSpec, FeedForwardSpec, MixerSpec, ModelFacts};
use crate::runner::LoadProgress;
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

/// A loaded decoder: immutable weights on a device. Survives the executors that compute with it.
#[derive(Debug)]
pub struct CandleModel {
    spec: DecoderSpec,
    facts: ModelFacts,
    mode: ComputeMode,
    device: Device,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    report: LoadReport,
}

#[derive(Debug)]
struct Layer {
    mixer_norm: RmsNorm,
    mixer: Mixer,
    mlp_norm: RmsNorm,
    mlp: FeedForward,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per layer")]
enum Mixer {
    Attention(Attention),
    Latent(LatentAttention),
    Delta(DeltaNet),
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per layer")]
enum FeedForward {
    Dense(GatedMlp),
    Routed(RoutedMlp),
}

impl CandleModel {
    /// Brings a checkpoint's weights to `device`. `progress` is called after every tensor.
    ///
    /// # Errors
    /// [`LoadError`], before anything is allocated if the checkpoint is at fault.
    pub fn load(
        checkpoint: &Checkpoint,
        device: &Device,
        mode: ComputeMode,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Arc<Self>, LoadError> {
        let blueprint = Blueprint::read(checkpoint)?;
        let reached = LoadProgress { done_bytes: 0, total_bytes: blueprint.modules().stored_bytes(checkpoint) };
        let report = LoadReport { unexpected: blueprint.unexpected.clone(), ..LoadReport::default() };
        let mut loader = Loader { checkpoint, blueprint: &blueprint, device, mode, progress, reached, report };

        let (embedding, head) = loader.embedding_and_head()?;
        let layers = (0..blueprint.spec.layers.len())
            .map(|number| Layer::load(&mut loader, number))
            .collect::<Result<_, _>>()?;
        let norm = loader.norm(&blueprint.norm_path(), blueprint.spec.norm_eps)?;
        let report = loader.report;
        for path in &report.kept_dense {
            tracing::warn!(%path, "block types cannot hold this quantised module, it is kept in float32");
        }
        Ok(Arc::new(Self {
            facts: ModelFacts::of(&blueprint),
            spec: blueprint.spec,
            mode,
            device: device.clone(),
            embedding,
            layers,
            norm,
            head,
            report,
        }))
    }

    /// What the model is.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// What loading did beyond the expected.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// Precision of the products.
    pub fn mode(&self) -> ComputeMode {
        self.mode
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Type of keys and values in memory.
    pub fn kv_dtype(&self) -> DType {
        kv_dtype(&self.device, self.mode)
    }

    /// Bytes of KV memory that one token takes in all layers.
    pub fn kv_bytes_per_token(&self) -> usize {
        kv_bytes_per_token(&self.facts, &self.device, self.mode)
    }

    pub(super) fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Runs all layers and returns the wanted logits, f32 `[wanted, vocab]`.
    pub(super) fn forward(&self, kv: &KvMemory, step: &Step) -> candle_core::Result<Option<Tensor>> {
        let mut x = self.embedding.forward(&step.ids)?; // [tokens, hidden], all rows packed
        let mut new = Vec::new();
        let mut chosen = Chosen::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = layer.mixer_norm.forward(&x)?;
            x = (&x
                + match &layer.mixer {
                    Mixer::Attention(of) => of.forward(&normed, number, kv, step)?,
                    Mixer::Latent(of) => of.forward(&normed, number, kv, step, &mut chosen)?,
                    Mixer::Delta(of) => of.forward(&normed, number, kv, step, &mut new)?,
                })?;
            let normed = layer.mlp_norm.forward(&x)?;
            x = (&x
                + match &layer.mlp {
                    FeedForward::Dense(of) => of.forward(&normed)?,
                    FeedForward::Routed(of) => of.forward(&normed)?,
                })?;
        }
        let mut logits = None;
        if step.wanted.elem_count() > 0 {
            // The head is the largest matrix: only the rows that somebody asked for pass it.
            let x = x.index_select(&step.wanted, 0)?;
            logits = Some(self.head.forward(&self.norm.forward(&x)?)?);
        }
        kv.write_states(&new)?;
        Ok(logits)
    }
}

impl Layer {
    fn load(loader: &mut Loader<'_>, number: usize) -> Result<Self, LoadError> {
        let blueprint = loader.blueprint;
        let path = |name: &str| blueprint.layer_path(number, name);
        let (spec, eps) = (&blueprint.spec.layers[number], blueprint.spec.norm_eps);
        Ok(Self {
            mixer_norm: loader.norm(&path("input_layernorm"), eps)?,
            mixer: match &spec.mixer {
                MixerSpec::Attention(of) => Mixer::Attention(Attention::load(loader, number, of.clone())?),
                MixerSpec::Latent(of) => Mixer::Latent(LatentAttention::load(loader, number, of.clone())?),
                MixerSpec::Delta(of) => Mixer::Delta(DeltaNet::load(loader, number, of.clone())?),
            },
            mlp_norm: loader.norm(&path("post_attention_layernorm"), eps)?,
            mlp: match &spec.mlp {
                FeedForwardSpec::Dense(of) => FeedForward::Dense(GatedMlp::of_layer(loader, number, of)?),
                FeedForwardSpec::Routed(of) => FeedForward::Routed(RoutedMlp::load(loader, number, of.clone())?),
            },
        })
    }
}
