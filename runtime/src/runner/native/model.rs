use super::pack;
use super::stored::StoredMatrix;
use super::weights::{Linear, Matrix};
use crate::checkpoint::{Checkpoint, LoadError};
use crate::config::{ComputeMode, HugePages};
use crate::kernels::Form;
use crate::model::{Blueprint, DecoderSpec, ModelFacts};
use crate::runner::LoadProgress;
use crate::runner::team::Threads;
use std::sync::Arc;

/// How weights are brought into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Who rearranges them: the same as will compute with them.
    pub threads: Threads,
    /// Pages of the memory for weights and for keys and values.
    pub huge_pages: HugePages,
    /// Whether they stay in the file.
    pub mapped: bool,
}

impl From<Threads> for LoadOptions {
    fn from(threads: Threads) -> Self {
        Self { threads, huge_pages: HugePages::Auto, mapped: false }
    }
}

/// A decoder in the form that the kernels read. Survives the executors that compute with it.
#[derive(Debug)]
pub struct NativeModel {
    pub(super) spec: DecoderSpec,
    facts: ModelFacts,
    pub(super) mode: ComputeMode,
    pub(super) huge_pages: HugePages,
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
    /// Finds a checkpoint's weights and, unless they stay in the file, rearranges them. `progress` is called every few
    /// megabytes.
    ///
    /// # Errors
    /// [`LoadError`], before anything is allocated if the checkpoint is at fault.
    pub fn load(
        checkpoint: &Checkpoint,
        mode: ComputeMode,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Arc<Self>, LoadError> {
        let blueprint = Blueprint::read(checkpoint)?;
        let reached = LoadProgress { done_bytes: 0, total_bytes: blueprint.stored_bytes(checkpoint) };
        let mut loader = Loader { checkpoint, blueprint: &blueprint, progress, reached };
        let spec = &blueprint.spec;
        let layers = (0..spec.layers.len()).map(|number| loader.layer(number)).collect::<Result<_, _>>()?;
        let embedding = loader.linear(&blueprint.embedding_path())?;
        let norm = loader.floats(&blueprint.norm_path())?;
        let head = blueprint.head_path().map(|path| loader.linear(path)).transpose()?;
        let mut reached = loader.reached;
        let mut model = Self {
            facts: ModelFacts::of(&blueprint),
            spec: blueprint.spec,
            mode,
            huge_pages: options.huge_pages,
            embedding,
            layers,
            norm,
            head,
        };
        let mut advance = |bytes: usize| {
            reached.done_bytes += bytes as u64;
            progress(reached);
        };
        let matrices = model.matrices_mut();
        if options.mapped {
            advance(matrices.iter().filter_map(|matrix| matrix.stored()).map(StoredMatrix::bytes).sum());
        } else {
            pack::pack(matrices, Form::best(), &options.threads, options.huge_pages, &mut advance)
                .map_err(|error| LoadError::Device { what: "weights".to_owned(), message: error.to_string() })?;
        }
        Ok(Arc::new(model))
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

    /// All matrices, in the order in which a step reads them but for the embedding.
    fn matrices_mut(&mut self) -> Vec<&mut Matrix> {
        let layers = self.layers.iter_mut().flat_map(|layer| {
            let Layer { q, k, v, out, gate, up, down, .. } = layer;
            [q, k, v, out, gate, up, down]
        });
        let ends = [Some(&mut self.embedding), self.head.as_mut()].into_iter().flatten();
        layers.chain(ends).map(|linear| &mut linear.matrix).collect()
    }

    pub(super) fn head(&self) -> &Linear {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    blueprint: &'a Blueprint,
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
        let module = self.blueprint.module(path)?;
        let stored = StoredMatrix::find(self.checkpoint, module, path)?;
        Ok(Linear { matrix: Matrix::new(module.outputs, module.inputs, stored), bias })
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
