use super::weights::{Linear, Matrix};
use crate::checkpoint::{Checkpoint, LoadError};
use crate::config::ComputeMode;
use crate::model::{Blueprint, DecoderSpec, ModelFacts, Weight};
use crate::runner::LoadProgress;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// A decoder in the form that the kernels read. Survives the executors that compute with it.
#[derive(Debug)]
pub struct NativeModel {
    pub(super) spec: DecoderSpec,
    facts: ModelFacts,
    pub(super) mode: ComputeMode,
    pub(super) embedding: Linear,
    pub(super) layers: Vec<Layer>,
    /// `[hidden]`.
    pub(super) norm: Vec<f32>,
    /// `None`: the embedding.
    head: Option<Linear>,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) q: Linear,
    pub(super) k: Linear,
    pub(super) v: Linear,
    /// Weights of the norms of each head's query and key, `[head_dim]`.
    pub(super) qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    pub(super) out: Linear,
    pub(super) mlp_norm: Vec<f32>,
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

impl NativeModel {
    /// Rearranges a checkpoint's weights, on `threads` threads. `progress` is called after every tensor.
    ///
    /// # Errors
    /// [`LoadError`], before anything is allocated if the checkpoint is at fault.
    pub fn load(
        checkpoint: &Checkpoint,
        mode: ComputeMode,
        threads: NonZeroUsize,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Arc<Self>, LoadError> {
        let blueprint = Blueprint::read(checkpoint)?;
        let reached = LoadProgress { done_bytes: 0, total_bytes: blueprint.stored_bytes(checkpoint) };
        let mut loader = Loader { checkpoint, blueprint: &blueprint, threads: threads.get(), progress, reached };
        let spec = &blueprint.spec;
        let layers = (0..spec.layers.len()).map(|number| loader.layer(number)).collect::<Result<_, _>>()?;
        let embedding = loader.linear(&blueprint.embedding_path())?;
        let norm = loader.floats(&blueprint.norm_path())?;
        let head = blueprint.head_path().map(|path| loader.linear(path)).transpose()?;
        Ok(Arc::new(Self {
            facts: ModelFacts::of(&blueprint),
            spec: blueprint.spec,
            mode,
            embedding,
            layers,
            norm,
            head,
        }))
    }

    /// What the model is.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// Bytes of the matrices that every step reads whole.
    pub fn step_bytes(&self) -> u64 {
        // The last two are the embedding, of which a step takes rows, and the head.
        let embedding = self.embedding.matrix.bytes();
        (self.matrices().map(Matrix::bytes).sum::<usize>() - embedding) as u64
    }

    /// All matrices.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let layers = self.layers.iter().flat_map(|layer| {
            [&layer.q, &layer.k, &layer.v, &layer.out, &layer.gate, &layer.up, &layer.down].map(|linear| &linear.matrix)
        });
        layers.chain([&self.embedding.matrix, &self.head().matrix])
    }

    pub(super) fn head(&self) -> &Linear {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    blueprint: &'a Blueprint,
    threads: usize,
    progress: &'a mut dyn FnMut(LoadProgress),
    reached: LoadProgress,
}

impl Loader<'_> {
    fn layer(&mut self, number: usize) -> Result<Layer, LoadError> {
        let blueprint = self.blueprint;
        let path = |name: &str| blueprint.layer_path(number, name);
        let qk_norm = match blueprint.spec.layers[number].attention.qk_norm {
            false => None,
            true => Some((self.floats(&path("self_attn.q_norm"))?, self.floats(&path("self_attn.k_norm"))?)),
        };
        Ok(Layer {
            attention_norm: self.floats(&path("input_layernorm"))?,
            q: self.linear(&path("self_attn.q_proj"))?,
            k: self.linear(&path("self_attn.k_proj"))?,
            v: self.linear(&path("self_attn.v_proj"))?,
            qk_norm,
            out: self.linear(&path("self_attn.o_proj"))?,
            mlp_norm: self.floats(&path("post_attention_layernorm"))?,
            gate: self.linear(&path("mlp.gate_proj"))?,
            up: self.linear(&path("mlp.up_proj"))?,
            down: self.linear(&path("mlp.down_proj"))?,
        })
    }

    fn linear(&mut self, path: &str) -> Result<Linear, LoadError> {
        let bias = match self.blueprint.module(path)?.bias {
            false => None,
            true => {
                let tensor = self.checkpoint.tensor(&format!("{path}.bias"))?;
                self.advance(tensor.data.len());
                Some(tensor.to_f32()?)
            }
        };
        Ok(Linear { matrix: self.matrix(path)?, bias })
    }

    fn matrix(&mut self, path: &str) -> Result<Matrix, LoadError> {
        let module = self.blueprint.module(path)?;
        let (matrix, bytes) = match module.weight(self.checkpoint, path)? {
            Weight::Affine(affine) => {
                let stored = [affine.codes, affine.scales, affine.biases].iter().map(|tensor| tensor.data.len()).sum();
                (Matrix::affine(&affine, path, self.threads)?, stored)
            }
            Weight::Dense(tensor) => {
                (Matrix::dense(tensor, module.outputs, module.inputs, path, self.threads)?, tensor.data.len())
            }
        };
        self.advance(bytes);
        Ok(matrix)
    }

    fn floats(&mut self, path: &str) -> Result<Vec<f32>, LoadError> {
        let tensor = self.checkpoint.tensor(&format!("{path}.weight"))?;
        self.advance(tensor.data.len());
        tensor.to_f32()
    }

    fn advance(&mut self, bytes: usize) {
        self.reached.done_bytes += bytes as u64;
        (self.progress)(self.reached);
    }
}
