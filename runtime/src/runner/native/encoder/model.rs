use crate::checkpoint::{Checkpoint, LoadError, element_bytes};
use crate::config::{ComputeMode, HugePages};
use crate::kernels::{Form, TILE, word_tile_bytes};
use crate::model::encoder::{Activation, EncoderBlueprint, EncoderSpec, EncoderTask, NormKind, NormOrder, Pooling};
use crate::model::{Module, ModuleKind, Modules, QkNorm, Storage};
use crate::runner::LoadProgress;
use crate::runner::native::find::Finder;
use crate::runner::native::model::LoadOptions;
use crate::runner::native::pack;
use crate::runner::native::stored::{StoredMatrix, rounds};
use crate::runner::native::weights::{Linear, Matrix, modules_bytes};
use std::sync::Arc;

/// An encoder in the form that the kernels read.
#[derive(Debug)]
pub struct NativeEncoder {
    pub(super) spec: EncoderSpec,
    pub(super) mode: ComputeMode,
    pub(super) huge_pages: HugePages,
    pub(super) embedding: Matrix,
    /// `[positions, hidden]`, if positions have rows, the first token's first.
    pub(super) positions: Option<Vec<f32>>,
    /// `[types, hidden]`, if segments have rows.
    pub(super) types: Option<Vec<f32>>,
    pub(super) input_norm: Option<Norm>,
    pub(super) layers: Vec<Layer>,
    pub(super) last_norm: Option<Norm>,
    pub(super) head: Head,
}

/// Factors, and what is added behind them.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) q: Linear,
    pub(super) k: Linear,
    pub(super) v: Linear,
    pub(super) qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    pub(super) out: Linear,
    /// Before and behind attention.
    pub(super) attention_norms: [Option<Norm>; 2],
    pub(super) gate: Option<Linear>,
    pub(super) up: Linear,
    pub(super) down: Linear,
    /// Before and behind the MLP.
    pub(super) mlp_norms: [Option<Norm>; 2],
}

/// What happens to the last layer's rows.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) pooling: Pooling,
    pub(super) layers: Vec<(Linear, Activation)>,
    /// Rows whose products with the pooled row are the result, in place of `layers`.
    pub(super) answers: Vec<Matrix>,
    pub(super) width: usize,
}

impl NativeEncoder {
    /// Finds an encoder's weights and, unless they stay in the file, rearranges them. `answers`: the tokens of `yes` and
    /// `no`, for [`EncoderTask::YesNo`].
    ///
    /// # Errors
    /// [`LoadError`], before anything is allocated if the checkpoint is at fault.
    pub fn load(
        checkpoint: &Checkpoint,
        blueprint: &EncoderBlueprint,
        answers: Option<[u32; 2]>,
        mode: ComputeMode,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Arc<Self>, LoadError> {
        let reached = LoadProgress { done_bytes: 0, total_bytes: blueprint.stored_bytes(checkpoint) };
        let find = Finder { checkpoint, modules: blueprint.modules(), mode, progress, reached };
        let mut loader = Loader { find, blueprint };
        let (spec, names) = (&blueprint.spec, blueprint.names);
        let input = &spec.input;
        let rows = |wanted: bool, name: &str, find: &mut Finder<'_>| {
            wanted.then(|| find.rows(&blueprint.path(name))).transpose()
        };
        let positions = rows(input.positions.is_some(), names.positions, &mut loader.find)?.map(|rows| {
            let before = input.positions.map_or(0, |positions| positions.first) * spec.hidden;
            rows[before..].to_vec()
        });
        let mut model = Self {
            spec: spec.clone(),
            mode,
            huge_pages: options.huge_pages,
            positions,
            types: rows(input.types > 0, names.types, &mut loader.find)?,
            input_norm: loader.norm(input.normed, &blueprint.path(names.input_norm))?,
            layers: (0..spec.layers.len()).map(|number| loader.layer(number)).collect::<Result<_, _>>()?,
            last_norm: loader.norm(spec.last_norm, &blueprint.path(names.last_norm))?,
            embedding: loader.find.matrix(&blueprint.path(names.embedding), 0)?,
            head: loader.head(answers)?,
        };
        let mut reached = loader.find.reached;
        let mut advance = |bytes: usize| {
            reached.done_bytes += bytes as u64;
            progress(reached);
        };
        let mut matrices = model.matrices_mut();
        if options.mapped {
            let costly = |matrix: &Matrix| matrix.stored().is_some_and(StoredMatrix::is_turned);
            let (kept, stay): (Vec<_>, Vec<_>) = matrices.into_iter().partition(|matrix| costly(matrix));
            advance(stay.iter().filter_map(|matrix| matrix.stored()).map(StoredMatrix::bytes).sum());
            matrices = kept;
        }
        if !matrices.is_empty() {
            pack::pack(matrices, Form::best(), &options.threads, options.huge_pages, &mut advance)
                .map_err(|error| LoadError::Device { what: "weights".to_owned(), message: error.to_string() })?;
        }
        Ok(Arc::new(model))
    }

    /// All matrices, in the order in which a step reads them.
    fn matrices_mut(&mut self) -> Vec<&mut Matrix> {
        let layers = self.layers.iter_mut().flat_map(|layer| {
            let Layer { q, k, v, out, gate, up, down, .. } = layer;
            let all = [Some(q), Some(k), Some(v), Some(out), gate.as_mut(), Some(up), Some(down)];
            all.into_iter().flatten().map(|linear| &mut linear.matrix)
        });
        let head = self.head.layers.iter_mut().map(|(linear, _)| &mut linear.matrix);
        std::iter::once(&mut self.embedding).chain(layers).chain(head).chain(&mut self.head.answers).collect()
    }

    /// Matrices that all tokens are multiplied with.
    pub(super) fn token_matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.layers.iter().flat_map(|layer| {
            let Layer { q, k, v, out, gate, up, down, .. } = layer;
            let all = [Some(q), Some(k), Some(v), Some(out), gate.as_ref(), Some(up), Some(down)];
            all.into_iter().flatten().map(|linear| &linear.matrix)
        })
    }

    /// Matrices that pooled rows are multiplied with.
    pub(super) fn head_matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.head.layers.iter().map(|(linear, _)| &linear.matrix).chain(&self.head.answers)
    }
}

struct Loader<'a> {
    find: Finder<'a>,
    blueprint: &'a EncoderBlueprint,
}

impl Loader<'_> {
    fn layer(&mut self, number: usize) -> Result<Layer, LoadError> {
        let EncoderBlueprint { spec, names, .. } = self.blueprint;
        let path = |name: &str| self.blueprint.layer_path(number, name);
        let [q, k, v, out] = names.attention.map(path);
        let [gate, up, down] = names.mlp.map(path);
        let qk_norm = match spec.attention.qk_norm {
            QkNorm::None => None,
            QkNorm::Heads | QkNorm::Whole => {
                let [q, k] = names.qk_norms.map(path);
                Some((self.find.floats(&q)?, self.find.floats(&k)?))
            }
        };
        let there = [spec.order != NormOrder::Behind, spec.order != NormOrder::Before];
        let mut norms = |names: [&str; 2]| {
            let [before, behind] = names.map(path);
            Ok::<_, LoadError>([self.norm(there[0], &before)?, self.norm(there[1], &behind)?])
        };
        Ok(Layer {
            attention_norms: norms(names.attention_norms)?,
            mlp_norms: norms(names.mlp_norms)?,
            q: self.linear(&q)?,
            k: self.linear(&k)?,
            v: self.linear(&v)?,
            qk_norm,
            out: self.linear(&out)?,
            gate: spec.mlp.activation.is_gated().then(|| self.linear(&gate)).transpose()?,
            up: self.linear(&up)?,
            down: self.linear(&down)?,
        })
    }

    /// A product of a layer. In the mode for speed, floats are rounded to words: bytes would cost too much of the vectors'
    /// direction.
    fn linear(&mut self, path: &str) -> Result<Linear, LoadError> {
        let mut linear = self.find.linear(path)?;
        // Products add it, tile by tile.
        if let Some(bias) = &mut linear.bias {
            bias.resize(linear.matrix.tiles() * TILE, 0.0);
        }
        Ok(match (self.find.mode, linear.matrix.stored()) {
            (ComputeMode::Int8, Some(stored)) => {
                let (outputs, inputs) = (linear.matrix.outputs, linear.matrix.inputs);
                Linear { matrix: Matrix::new(outputs, inputs, stored.clone().rounded(Form::best())), bias: linear.bias }
            }
            _ => linear,
        })
    }

    /// The norm at `path`, if there is one.
    fn norm(&mut self, there: bool, path: &str) -> Result<Option<Norm>, LoadError> {
        let biased = self.blueprint.spec.norm == NormKind::Layer;
        let mut norm = || {
            let weight = self.find.floats(path)?;
            let bias = biased.then(|| self.find.vector(&format!("{path}.bias"))).transpose()?;
            Ok(Norm { weight, bias })
        };
        there.then(&mut norm).transpose()
    }

    fn head(&mut self, answers: Option<[u32; 2]>) -> Result<Head, LoadError> {
        let EncoderBlueprint { head, task, spec, names, width, .. } = self.blueprint;
        let checkpoint = self.find.checkpoint;
        let mut layers = Vec::new();
        for (weights, layer) in self.blueprint.head_weights(checkpoint).zip(&head.layers) {
            let mut find = Finder {
                checkpoint: weights.beside.unwrap_or(checkpoint),
                modules: weights.modules,
                mode: self.find.mode,
                progress: self.find.progress,
                reached: self.find.reached,
            };
            layers.push((find.linear(&weights.path)?, layer.activation));
            self.find.reached = find.reached;
        }
        let mut rows = Vec::new();
        if *task == EncoderTask::YesNo {
            let own = self.blueprint.answers_path(checkpoint);
            let path = own.unwrap_or_else(|| self.blueprint.path(names.embedding));
            let stored = self.find.stored(&path, 0)?;
            let answers =
                answers.ok_or_else(|| LoadError::invalid("tokenizer.json", "it has no tokens `yes` and `no`"))?;
            for token in answers.map(|token| token as usize) {
                if token >= spec.vocab {
                    let reason = format!("token {token} of {} is an answer", spec.vocab);
                    return Err(LoadError::invalid("tokenizer.json", reason));
                }
                rows.push(Matrix::new(1, spec.hidden, stored.some_rows(token..token + 1)));
            }
        }
        Ok(Head { pooling: head.pooling, layers, answers: rows, width: *width })
    }
}

/// Bytes of memory that the weights of an encoder take once it is loaded; of `mapped` ones only what is not in the file.
pub fn encoder_bytes(blueprint: &EncoderBlueprint, mapped: bool, mode: ComputeMode) -> u64 {
    let all: u64 = blueprint.all_modules().map(|modules: &Modules| modules_bytes(modules, mapped, mode)).sum();
    if mode != ComputeMode::Int8 {
        return all;
    }
    // Products of the layers, of which rounded ones are in memory in any case.
    let difference = |(_, module): (&str, &Module)| {
        let Storage::Dense(dtype) = module.storage else { return 0 };
        let rounds = module.kind == ModuleKind::Linear && rounds(module.inputs);
        let elements = (module.outputs * module.inputs) as i64;
        let own = if mapped { 0 } else { elements * element_bytes(dtype) as i64 };
        let words = (module.outputs.div_ceil(TILE) * word_tile_bytes(module.inputs)) as i64;
        if rounds { words - own } else { 0 }
    };
    all.saturating_add_signed(blueprint.modules().iter().map(difference).sum())
}
