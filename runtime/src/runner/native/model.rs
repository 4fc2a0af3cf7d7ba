use super::find::Finder;
use super::load::Loader;
use super::pack;
use super::stored::StoredMatrix;
use super::weights::{Linear, Matrix};
use crate::checkpoint::{Checkpoint, LoadError};
use crate::config::{ComputeMode, HugePages};
use crate::kernels::Form;
use crate::model::{Blueprint, DecoderSpec, FeedForwardSpec, LayerSpec, ModelFacts};
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
    pub(super) mixer_norm: Vec<f32>,
    pub(super) mixer: Mixer,
    pub(super) mlp_norm: Vec<f32>,
    pub(super) mlp: FeedForward,
}

/// What mixes positions.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per layer")]
pub(super) enum Mixer {
    Attention(AttentionWeights),
    Latent(LatentWeights),
    Delta(DeltaWeights),
}

#[derive(Debug)]
pub(super) struct AttentionWeights {
    pub(super) q: Linear,
    pub(super) k: Linear,
    pub(super) v: Linear,
    /// Weights of the norms of queries and keys: of each head, or of all at once.
    pub(super) qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    pub(super) out: Linear,
    /// Weight of the norm of what `out` gives.
    pub(super) out_norm: Option<Vec<f32>>,
}

#[derive(Debug)]
pub(super) struct LatentWeights {
    pub(super) query: LatentQuery,
    /// To the latent and the shared key.
    pub(super) latent: Linear,
    pub(super) latent_norm: Vec<f32>,
    /// By head: from what does not rotate of a query to what meets the latent, `[rank, plain]`.
    pub(super) absorb: Vec<Matrix>,
    /// By head: from a mix of latents to the value, `[value, rank]`.
    pub(super) value: Vec<Matrix>,
    pub(super) out: Linear,
    /// What chooses positions, if that is done here.
    pub(super) indexer: Option<IndexerWeights>,
}

/// What chooses positions for latent attention.
#[derive(Debug)]
pub(super) struct IndexerWeights {
    /// From the normed queries of the attention.
    pub(super) query: Linear,
    pub(super) key: Linear,
    /// Weight and bias of the norm of keys.
    pub(super) key_norm: (Vec<f32>, Vec<f32>),
    /// To what each head counts.
    pub(super) weights: Linear,
}

/// A gated delta net.
#[derive(Debug)]
pub(super) struct DeltaWeights {
    /// By key head: a query, a key, the values of its value heads, and their gates.
    pub(super) qkvz: Linear,
    /// By key head: what becomes `beta` of its value heads, then what becomes their decay.
    pub(super) ba: Linear,
    /// Taps of the convolution, `[taps, channels]`, the oldest first; channels are all queries, all keys, all values.
    pub(super) taps: Vec<f32>,
    /// How fast each value head forgets.
    pub(super) rates: Vec<f32>,
    pub(super) rate_bias: Vec<f32>,
    /// Factors that bring a query and a key, normed to a mean square of 1, to their lengths.
    pub(super) query_factors: Vec<f32>,
    pub(super) key_factors: Vec<f32>,
    /// `[value_dim]`.
    pub(super) norm: Vec<f32>,
    pub(super) out: Linear,
}

/// How queries are projected.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per layer")]
pub(super) enum LatentQuery {
    Plain(Linear),
    Ranked { down: Linear, norm: Vec<f32>, up: Linear },
}

/// What mixes the components of one token.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per layer")]
pub(super) enum FeedForward {
    Dense(Gated),
    Routed(Routed),
}

/// `down(silu(gate(x)) * up(x))`.
#[derive(Debug)]
pub(super) struct Gated {
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
    /// Weight of the norm of what `down` gives, where this is all of a layer's MLP.
    pub(super) out_norm: Option<Vec<f32>>,
}

/// A mixture of experts.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) router: Linear,
    /// What is added to the scores for the choice, `[experts]`.
    pub(super) correction: Option<Vec<f32>>,
    pub(super) experts: Experts,
    pub(super) shared: Option<Shared>,
}

/// The MLP that every token passes, and the gate of its output.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) mlp: Gated,
    pub(super) gate: Option<Linear>,
}

/// The experts of a layer, by number: the one way to their weights.
#[derive(Debug)]
pub(super) struct Experts(Vec<Expert>);

/// One expert.
#[derive(Debug)]
pub(super) struct Expert {
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
}

impl Experts {
    pub(super) fn new(all: Vec<Expert>) -> Self {
        Self(all)
    }

    pub(super) fn of(&self, number: usize) -> &Expert {
        &self.0[number]
    }
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
        let reached = LoadProgress { done_bytes: 0, total_bytes: blueprint.modules().stored_bytes(checkpoint) };
        let find = Finder { checkpoint, modules: blueprint.modules(), mode, progress, reached };
        let mut loader = Loader { find, blueprint: &blueprint };
        let spec = &blueprint.spec;
        let layers = (0..spec.layers.len()).map(|number| loader.layer(number)).collect::<Result<_, _>>()?;
        let embedding = loader.find.linear(&blueprint.embedding_path())?;
        let norm = loader.find.floats(&blueprint.norm_path())?;
        let head = blueprint.head_path().map(|path| loader.find.linear(path)).transpose()?;
        let mut reached = loader.find.reached;
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
        let mut matrices = model.matrices_mut();
        if options.mapped {
            // What is costly to make is made once all the same.
            let turned = |matrix: &Matrix| matrix.stored().is_some_and(StoredMatrix::is_turned);
            let (kept, stay): (Vec<_>, Vec<_>) = matrices.into_iter().partition(|matrix| turned(matrix));
            advance(stay.iter().filter_map(|matrix| matrix.stored()).map(StoredMatrix::bytes).sum());
            matrices = kept;
        }
        if !matrices.is_empty() {
            pack::pack(matrices, Form::best(), &options.threads, options.huge_pages, &mut advance)
                .map_err(|error| LoadError::Device { what: "weights".to_owned(), message: error.to_string() })?;
        }
        Ok(Arc::new(model))
    }

    /// What the model is.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// Bytes of the matrices that a step of one token reads.
    pub fn step_bytes(&self) -> u64 {
        let bytes = |matrices: Vec<&Matrix>| matrices.into_iter().map(Matrix::bytes).sum::<usize>();
        let layer = |(layer, spec): (&Layer, &LayerSpec)| {
            let whole = bytes(layer.matrices());
            let FeedForwardSpec::Routed(of) = &spec.mlp else { return whole };
            let experts = bytes(layer.expert_matrices());
            whole - experts + experts / of.router.experts * of.router.top_k
        };
        let layers: usize = self.layers.iter().zip(&self.spec.layers).map(layer).sum();
        (layers + self.head().matrix.bytes()) as u64
    }

    /// All matrices, in the order in which a step reads them.
    fn matrices_mut(&mut self) -> Vec<&mut Matrix> {
        let layers = self.layers.iter_mut().flat_map(Layer::matrices_mut);
        let ends = [Some(&mut self.embedding), self.head.as_mut()].into_iter().flatten();
        layers.chain(ends.map(|linear| &mut linear.matrix)).collect()
    }

    pub(super) fn head(&self) -> &Linear {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl Layer {
    /// Weight of the norm of what the mixer gives.
    pub(super) fn mixer_out_norm(&self) -> Option<&[f32]> {
        match &self.mixer {
            Mixer::Attention(of) => of.out_norm.as_deref(),
            Mixer::Latent(_) | Mixer::Delta(_) => None,
        }
    }

    /// Its matrices.
    fn matrices(&self) -> Vec<&Matrix> {
        let mut all = self.token_matrices();
        all.extend(self.spread_matrices());
        all
    }

    /// Those that all tokens are multiplied with.
    pub(super) fn token_matrices(&self) -> Vec<&Matrix> {
        let mut all = Vec::new();
        match &self.mixer {
            Mixer::Attention(AttentionWeights { q, k, v, out, .. }) => all.extend([q, k, v, out]),
            Mixer::Latent(LatentWeights { query, latent, out, indexer, .. }) => {
                match query {
                    LatentQuery::Plain(query) => all.push(query),
                    LatentQuery::Ranked { down, up, .. } => all.extend([down, up]),
                }
                all.extend([latent, out]);
                if let Some(IndexerWeights { query, key, weights, .. }) = indexer {
                    all.extend([query, key, weights]);
                }
            }
            Mixer::Delta(DeltaWeights { qkvz, ba, out, .. }) => all.extend([qkvz, ba, out]),
        }
        match &self.mlp {
            FeedForward::Dense(Gated { gate, up, down, .. }) => all.extend([gate, up, down]),
            FeedForward::Routed(Routed { router, shared, .. }) => {
                all.push(router);
                if let Some(Shared { mlp: Gated { gate, up, down, .. }, gate: scale }) = shared {
                    all.extend([gate, up, down].into_iter().chain(scale));
                }
            }
        }
        all.into_iter().map(|linear| &linear.matrix).collect()
    }

    /// Those that only some rows are multiplied with: of experts, and of single heads.
    pub(super) fn spread_matrices(&self) -> Vec<&Matrix> {
        let mut all = self.expert_matrices();
        if let Mixer::Latent(LatentWeights { absorb, value, .. }) = &self.mixer {
            all.extend(absorb.iter().chain(value));
        }
        all
    }

    /// Those of its experts.
    fn expert_matrices(&self) -> Vec<&Matrix> {
        let FeedForward::Routed(Routed { experts, .. }) = &self.mlp else { return Vec::new() };
        experts.0.iter().flat_map(|Expert { gate, up, down }| [gate, up, down]).collect()
    }

    fn matrices_mut(&mut self) -> Vec<&mut Matrix> {
        let mut all = Vec::new();
        match &mut self.mixer {
            Mixer::Attention(AttentionWeights { q, k, v, out, .. }) => {
                all.extend([q, k, v, out].map(|of| &mut of.matrix));
            }
            Mixer::Latent(LatentWeights { query, latent, absorb, value, out, indexer, .. }) => {
                match query {
                    LatentQuery::Plain(query) => all.push(&mut query.matrix),
                    LatentQuery::Ranked { down, up, .. } => all.extend([&mut down.matrix, &mut up.matrix]),
                }
                all.push(&mut latent.matrix);
                if let Some(IndexerWeights { query, key, weights, .. }) = indexer {
                    all.extend([query, key, weights].map(|of| &mut of.matrix));
                }
                all.extend(absorb.iter_mut().chain(value));
                all.push(&mut out.matrix);
            }
            Mixer::Delta(DeltaWeights { qkvz, ba, out, .. }) => all.extend([qkvz, ba, out].map(|of| &mut of.matrix)),
        }
        match &mut self.mlp {
            FeedForward::Dense(Gated { gate, up, down, .. }) => all.extend([gate, up, down].map(|of| &mut of.matrix)),
            FeedForward::Routed(Routed { router, experts, shared, .. }) => {
                all.push(&mut router.matrix);
                all.extend(experts.0.iter_mut().flat_map(|Expert { gate, up, down }| [gate, up, down]));
                if let Some(Shared { mlp: Gated { gate, up, down, .. }, gate: scale }) = shared {
                    all.extend([gate, up, down].into_iter().chain(scale).map(|of| &mut of.matrix));
                }
            }
        }
        all
    }
}
