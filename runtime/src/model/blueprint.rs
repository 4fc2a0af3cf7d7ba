use super::affine::AffineMatrix;
use super::config::ModelConfig;
use super::family::Family;
use super::float8::{Float8, Float8Matrix};
use super::keys::{Keys, is_skipped};
use super::micro::{MicroMatrix, Microscaling, nvfp4_factor};
use super::quantization::{PACKED_BITS, Quantization, Setting};
use super::spec::{
    AttentionSpec, DecoderSpec, DeltaSpec, FeedForwardSpec, IndexerSpec, LatentSpec, LayerSpec, MixerSpec, OUT_NORMS,
    QkNorm, RoutedSpec,
};
use crate::checkpoint::{Checkpoint, Dtype, LoadError, TensorView, is_float};
use std::collections::{BTreeMap, BTreeSet};

/// A checkpoint checked against its configuration: every tensor that the model needs is there, in the shape it must
/// have. What an executor builds from.
#[derive(Debug)]
pub struct Blueprint {
    /// The family.
    pub family: &'static Family,
    /// The layers.
    pub spec: DecoderSpec,
    /// The configuration as it was read.
    pub config: ModelConfig,
    /// Tensors that no layer asks for and no rule explains, sorted: a sign that the model is not quite of this family.
    pub unexpected: Vec<String>,
    /// How many tensors were skipped by rule: rotary buffers, other towers, extra prediction layers.
    pub skipped: usize,
    keys: Keys,
    modules: BTreeMap<String, Module>,
}

/// One module of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// What it is.
    pub kind: ModuleKind,
    /// How many matrices of this shape stand in it, one after the other; 1 but for stacks of experts and heads.
    pub parts: usize,
    /// Rows; the length of a norm.
    pub outputs: usize,
    /// Columns; 1 for a norm.
    pub inputs: usize,
    /// How its weight is stored.
    pub storage: Storage,
    /// Whether it carries a bias vector `[outputs]`.
    pub bias: bool,
}

/// What a module does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// Rows are looked up.
    Embedding,
    /// A product.
    Linear,
    /// A vector of factors.
    Norm,
    /// A vector of factors from each of which 1 has been taken.
    CentredNorm,
    /// A vector by itself: its path is the tensor's whole name.
    Vector,
}

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// As floats.
    Dense(Dtype),
    /// As MLX affine codes.
    Affine(Quantization),
    /// As affine codes whose middle is zero, packed by compressed-tensors.
    Packed(Quantization),
    /// As small floats with a scale per group.
    Micro(Microscaling),
    /// As `nvfp4` with a scale besides that is the whole matrix's.
    ScaledNvfp4,
    /// As float8 with a scale per block.
    Float8(Float8),
}

/// The scale of a whole `nvfp4` matrix.
const GLOBAL_SCALE: &str = "global_scale";
/// Scales of float8 weights.
const FLOAT8_SCALES: &str = "weight_scale_inv";
/// Scales of the activations, beside float8 weights: of no use where activations are floats.
const ACTIVATION_SCALE: &str = "activation_scale";

impl Storage {
    /// Names of the tensors that make up a weight, below its module's path.
    pub fn tensors(self) -> &'static [&'static str] {
        match self {
            Self::Dense(_) => &["weight"],
            Self::Affine(_) => &["weight", "scales", "biases"],
            Self::Packed(_) => &["weight_packed", "weight_scale"],
            Self::Micro(_) => &["weight", "scales"],
            Self::ScaledNvfp4 => &["weight", "scales", GLOBAL_SCALE],
            Self::Float8(_) => &["weight", FLOAT8_SCALES],
        }
    }
}

impl Blueprint {
    /// Reads and checks. Allocates nothing for weights.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedArch`], [`LoadError::UnsupportedQuantization`], [`LoadError::InvalidCheckpoint`] with
    /// the tensor.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, LoadError> {
        let config = ModelConfig::read(checkpoint)?;
        let family = Family::of(&config)?;
        let spec = (family.spec)(&config)?;
        let keys = Keys::detect(checkpoint)?;

        let norm =
            if spec.centred_norms && !is_converted(checkpoint) { ModuleKind::CentredNorm } else { ModuleKind::Norm };
        let mut survey = Survey { checkpoint, config: &config, norm, modules: BTreeMap::new(), used: BTreeSet::new() };
        survey.matrix(keys.path("embed_tokens"), ModuleKind::Embedding, spec.vocab, spec.hidden, false)?;
        for (number, layer) in spec.layers.iter().enumerate() {
            survey.layer(&keys.path(&format!("layers.{number}")), &spec, layer)?;
        }
        survey.norm(keys.path("norm"), spec.hidden)?;
        match (&keys.head, spec.tied) {
            // A head beside tied embeddings is a leftover of a conversion: the embedding is what counts.
            (_, true) => {}
            (Some(head), false) => {
                survey.matrix(head.clone(), ModuleKind::Linear, spec.vocab, spec.hidden, false)?;
            }
            (None, false) => {
                let reason = "the checkpoint has no head, and config.json does not tie it to the embedding";
                return Err(LoadError::invalid("lm_head.weight", reason));
            }
        }

        let Survey { modules, used, .. } = survey;
        let (mut unexpected, mut skipped) = (Vec::new(), 0);
        for name in checkpoint.names().filter(|name| !used.contains(*name)) {
            let tied_head = spec.tied && keys.head.as_deref().is_some_and(|head| name.starts_with(head));
            let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
            let beside = modules.get(path).map(|module| module.storage);
            let activations = matches!(beside, Some(Storage::Float8(_))) && last == ACTIVATION_SCALE;
            if tied_head || activations || is_skipped(name, &keys.prefix, spec.layers.len()) {
                skipped += 1;
                continue;
            }
            match beside {
                // Whatever it is, the module's weights are not what they would be taken for without it.
                Some(storage) if !matches!(storage, Storage::Dense(_)) => {
                    return Err(LoadError::quantization(name, "a tensor of which this program knows nothing"));
                }
                _ => unexpected.push(name.to_owned()),
            }
        }
        Ok(Self { family, spec, config, unexpected, skipped, keys, modules })
    }

    /// What stands before the names of the language model's tensors.
    pub fn key_prefix(&self) -> &str {
        &self.keys.prefix
    }

    /// All modules by path, without `.weight`.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.modules.iter().map(|(path, module)| (path.as_str(), module))
    }

    /// Bytes of `checkpoint` that the modules take from it.
    pub fn stored_bytes(&self, checkpoint: &Checkpoint) -> u64 {
        let bytes = |name: &str| checkpoint.get(name).map_or(0, |tensor| tensor.data.len() as u64);
        let module = |(path, module): (&String, &Module)| match module.kind {
            ModuleKind::Vector => bytes(path),
            ModuleKind::Embedding | ModuleKind::Linear | ModuleKind::Norm | ModuleKind::CentredNorm => {
                let bias = if module.bias { bytes(&format!("{path}.bias")) } else { 0 };
                bias + module.weight_bytes(checkpoint, path)
            }
        };
        self.modules.iter().map(module).sum()
    }

    /// Path of the module `name` of layer `number`.
    pub fn layer_path(&self, number: usize, name: &str) -> String {
        self.keys.path(&format!("layers.{number}.{name}"))
    }

    /// Path of the embedding.
    pub fn embedding_path(&self) -> String {
        self.keys.path("embed_tokens")
    }

    /// Path of the last norm.
    pub fn norm_path(&self) -> String {
        self.keys.path("norm")
    }

    /// Path of the head; `None` if it is the embedding.
    pub fn head_path(&self) -> Option<&str> {
        self.keys.head.as_deref().filter(|_| !self.spec.tied)
    }

    /// Where the gate, up and down projections of an expert are: the path of a module, and which part of it.
    pub fn expert_paths(&self, layer: usize, of: &RoutedSpec, expert: usize) -> [(String, usize); 3] {
        let block = self.layer_path(layer, of.names.block);
        if self.modules.contains_key(&stacked(&block, PROJECTIONS[0])) {
            return PROJECTIONS.map(|name| (stacked(&block, name), expert));
        }
        of.names.expert.map(|name| (format!("{block}.experts.{expert}.{name}"), 0))
    }

    /// What is added to the stored factors of a norm.
    pub fn norm_offset(&self, path: &str) -> f32 {
        match self.modules.get(path) {
            Some(Module { kind: ModuleKind::CentredNorm, .. }) => 1.0,
            _ => 0.0,
        }
    }

    /// Where gate and up of the MLP at `path` are, if they are one matrix: the gate's rows, then as many of the other.
    pub fn gate_and_up_path(&self, path: &str) -> Option<String> {
        Some(format!("{path}.{GATE_AND_UP}")).filter(|path| self.has(path))
    }

    /// Whether the model has a module at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.modules.contains_key(path)
    }

    /// The module at `path`.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the model has none there.
    pub fn module(&self, path: &str) -> Result<&Module, LoadError> {
        self.modules.get(path).ok_or_else(|| LoadError::invalid(path, "the model has no module of this name"))
    }
}

impl Module {
    /// Bytes of the tensors that make up its weight.
    pub fn weight_bytes(&self, checkpoint: &Checkpoint, path: &str) -> u64 {
        let tensors = self.storage.tensors().iter().filter_map(|name| checkpoint.get(&format!("{path}.{name}")));
        tensors.map(|tensor| tensor.data.len() as u64).sum()
    }

    /// The module's stored matrix, or one of several.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if `checkpoint` is not the one that the module was read from.
    pub fn weight<'a>(&self, checkpoint: &'a Checkpoint, path: &str, part: usize) -> Result<Weight<'a>, LoadError> {
        let tensor = |name: &str| {
            let tensor = checkpoint.tensor(&format!("{path}.{name}"))?;
            Ok::<_, LoadError>(if self.parts > 1 || tensor.shape.len() > 2 { tensor.part(part) } else { tensor })
        };
        Ok(match self.storage {
            Storage::Dense(_) => Weight::Dense(tensor("weight")?),
            Storage::Affine(quantization) => Weight::Affine(AffineMatrix {
                quantization,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight")?,
                scales: tensor("scales")?,
                biases: Some(tensor("biases")?),
            }),
            Storage::Packed(quantization) => Weight::Affine(AffineMatrix {
                quantization,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight_packed")?,
                scales: tensor("weight_scale")?,
                biases: None,
            }),
            Storage::Micro(format) => Weight::Micro(MicroMatrix {
                format,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight")?,
                scales: tensor("scales")?,
                factor: 1.0,
            }),
            Storage::ScaledNvfp4 => {
                let stored = checkpoint.tensor(&format!("{path}.{GLOBAL_SCALE}"))?;
                let all = stored.to_f32()?;
                // One, or one for each part.
                let global = all.get(part).or(all.first()).copied().unwrap_or(f32::NAN);
                if !global.is_finite() {
                    return Err(LoadError::invalid(stored.name, "a scale is not a finite number"));
                }
                Weight::Micro(MicroMatrix {
                    format: Microscaling::Nvfp4,
                    outputs: self.outputs,
                    inputs: self.inputs,
                    codes: tensor("weight")?,
                    scales: tensor("scales")?,
                    factor: nvfp4_factor(global),
                })
            }
            Storage::Float8(format) => Weight::Float8(Float8Matrix {
                format,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight")?,
                scales: tensor(FLOAT8_SCALES)?,
            }),
        })
    }
}

/// A stored weight, to be read.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    /// Floats, `[outputs, inputs]` or `[outputs]`.
    Dense(TensorView<'a>),
    /// Affine codes.
    Affine(AffineMatrix<'a>),
    /// Small floats.
    Micro(MicroMatrix<'a>),
    /// Float8.
    Float8(Float8Matrix<'a>),
}

impl Weight<'_> {
    /// Looks at what is small enough to be looked at before it is used.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] naming a tensor with a number that spoils many weights.
    pub fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::Dense(_) => Ok(()),
            Self::Affine(AffineMatrix { scales, biases, .. }) => {
                scales.check_finite("scale")?;
                biases.map_or(Ok(()), |biases| biases.check_finite("bias"))
            }
            Self::Micro(matrix) => matrix.check(),
            Self::Float8(matrix) => matrix.check(),
        }
    }

    /// Widens the rows from `first` on that `out` has room for, `[rows, inputs]`.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if a tensor that has to be floats is not.
    pub fn dequantize_rows(&self, first: usize, out: &mut [f32]) -> Result<(), LoadError> {
        match self {
            Self::Dense(tensor) => {
                let first = first * tensor.shape.last().copied().unwrap_or(1);
                tensor.widen(first..first + out.len(), out)
            }
            Self::Affine(matrix) => matrix.dequantize_rows(first, out),
            Self::Micro(matrix) => matrix.dequantize_rows(first, out),
            Self::Float8(matrix) => matrix.dequantize_rows(first, out),
        }
    }
}

/// The check in progress: which modules were found and which tensors they use.
struct Survey<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    /// What most norms are.
    norm: ModuleKind,
    modules: BTreeMap<String, Module>,
    used: BTreeSet<String>,
}

/// Names of an expert's projections in a stack.
const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Name of gate and up in one matrix.
const GATE_AND_UP: &str = "gate_up_proj";

fn stacked(block: &str, projection: &str) -> String {
    format!("{block}.switch_mlp.{projection}")
}

impl<'a> Survey<'a> {
    fn layer(&mut self, path: &str, spec: &DecoderSpec, layer: &LayerSpec) -> Result<(), LoadError> {
        self.norm(format!("{path}.input_layernorm"), spec.hidden)?;
        self.norm(format!("{path}.post_attention_layernorm"), spec.hidden)?;
        let attention = format!("{path}.self_attn");
        match &layer.mixer {
            MixerSpec::Attention(of) => self.attention(&attention, spec.hidden, of)?,
            MixerSpec::Latent(of) => self.latent(&attention, spec.hidden, of)?,
            MixerSpec::Delta(of) => self.delta(&format!("{path}.linear_attn"), spec.hidden, of)?,
        }
        let out_norms = [
            matches!(&layer.mixer, MixerSpec::Attention(of) if of.out_norm),
            matches!(&layer.mlp, FeedForwardSpec::Dense(of) if of.out_norm),
        ];
        for (name, _) in OUT_NORMS.into_iter().zip(out_norms).filter(|(_, there)| *there) {
            self.norm(format!("{path}.{name}"), spec.hidden)?;
        }
        match &layer.mlp {
            FeedForwardSpec::Dense(mlp) => self.mlp(&format!("{path}.mlp"), spec.hidden, mlp.inner, mlp.bias),
            FeedForwardSpec::Routed(of) => self.routed(&format!("{path}.{}", of.names.block), spec.hidden, of),
        }
    }

    fn attention(&mut self, path: &str, hidden: usize, of: &AttentionSpec) -> Result<(), LoadError> {
        let (q_width, kv_width) = (of.heads * of.head_dim, of.kv_width());
        let norms = match of.qk_norm {
            QkNorm::None => None,
            QkNorm::Heads => Some([of.head_dim; 2]),
            QkNorm::Whole => Some([q_width, kv_width]),
        };
        if let Some([q, k]) = norms {
            self.norm(format!("{path}.q_norm"), q)?;
            self.norm(format!("{path}.k_norm"), k)?;
        }
        self.linears(
            path,
            &[
                ("q_proj", of.heads * of.query_width(), hidden, of.qkv_bias),
                ("k_proj", kv_width, hidden, of.qkv_bias),
                ("v_proj", kv_width, hidden, of.qkv_bias),
                ("o_proj", hidden, q_width, of.out_bias),
            ],
        )
    }

    fn latent(&mut self, path: &str, hidden: usize, of: &LatentSpec) -> Result<(), LoadError> {
        let q_width = of.heads * of.query();
        match of.query_rank {
            None => self.linears(path, &[("q_proj", q_width, hidden, false)])?,
            Some(rank) => {
                self.norm(format!("{path}.q_a_layernorm"), rank)?;
                self.linears(path, &[("q_a_proj", rank, hidden, of.bias), ("q_b_proj", q_width, rank, false)])?;
            }
        }
        self.norm(format!("{path}.kv_a_layernorm"), of.rank)?;
        self.linears(
            path,
            &[("kv_a_proj_with_mqa", of.cached(), hidden, of.bias), ("o_proj", hidden, of.heads * of.value, of.bias)],
        )?;
        if let (Some(indexer), Some(rank)) = (of.indexer(), of.query_rank) {
            self.indexer(&format!("{path}.indexer"), hidden, rank, indexer)?;
        }
        // Converters cut what makes keys and values of a latent into heads, and turn the keys' half.
        let halves = [("embed_q", of.rank, of.plain), ("unembed_out", of.value, of.rank)];
        if self.checkpoint.get(&format!("{path}.embed_q.weight")).is_some() {
            let mut halves = halves.into_iter();
            return halves.try_for_each(|(name, outputs, inputs)| {
                self.stack(format!("{path}.{name}"), of.heads, outputs, inputs)
            });
        }
        self.linears(path, &[("kv_b_proj", of.heads * (of.plain + of.value), of.rank, false)])
    }

    fn delta(&mut self, path: &str, hidden: usize, of: &DeltaSpec) -> Result<(), LoadError> {
        self.linears(
            path,
            &[
                ("in_proj_qkvz", 2 * of.keys() + 2 * of.values(), hidden, false),
                ("in_proj_ba", 2 * of.value_heads, hidden, false),
                ("out_proj", hidden, of.values(), false),
            ],
        )?;
        self.vector(format!("{path}.A_log"), of.value_heads)?;
        self.vector(format!("{path}.dt_bias"), of.value_heads)?;
        // The one in the middle of the layer is not centred.
        let dtype = self.floats(format!("{path}.norm.weight"), &[of.value_dim])?;
        self.insert(format!("{path}.norm"), ModuleKind::Norm, of.value_dim, false, dtype);
        // Either layout has a dimension of one, and the same bytes.
        let (name, channels) = (format!("{path}.{CONVOLUTION}"), of.channels());
        let shape = if is_converted(self.checkpoint) { [channels, of.taps, 1] } else { [channels, 1, of.taps] };
        let dtype = self.floats(name.clone(), &shape)?;
        self.insert(name, ModuleKind::Vector, channels * of.taps, false, dtype);
        Ok(())
    }

    fn indexer(&mut self, path: &str, hidden: usize, rank: usize, of: &IndexerSpec) -> Result<(), LoadError> {
        let norm = format!("{path}.k_norm");
        self.floats(format!("{norm}.bias"), &[of.head_dim])?;
        let dtype = self.floats(format!("{norm}.weight"), &[of.head_dim])?;
        self.insert(norm, ModuleKind::Norm, of.head_dim, true, dtype);
        self.linears(
            path,
            &[
                ("wq_b", of.heads * of.head_dim, rank, false),
                ("wk", of.head_dim, hidden, false),
                ("weights_proj", of.heads, hidden, false),
            ],
        )
    }

    fn mlp(&mut self, path: &str, hidden: usize, inner: usize, bias: bool) -> Result<(), LoadError> {
        let [gate, up, down] = PROJECTIONS;
        // Some files have gate and up in one matrix, one below the other.
        let fused = |name: &str| self.checkpoint.get(&format!("{path}.{GATE_AND_UP}.{name}")).is_some();
        if fused("weight") || fused("weight_packed") {
            return self.linears(path, &[(GATE_AND_UP, 2 * inner, hidden, bias), (down, hidden, inner, bias)]);
        }
        self.linears(path, &[(gate, inner, hidden, bias), (up, inner, hidden, bias), (down, hidden, inner, bias)])
    }

    fn routed(&mut self, path: &str, hidden: usize, of: &RoutedSpec) -> Result<(), LoadError> {
        let experts = of.router.experts;
        self.linears(path, &[("gate", experts, hidden, false)])?;
        if of.router.correction {
            self.vector(format!("{path}.{}", of.names.correction), experts)?;
        }
        let shapes = [(of.inner, hidden), (of.inner, hidden), (hidden, of.inner)];
        if self.checkpoint.get(&format!("{}.weight", stacked(path, PROJECTIONS[0]))).is_some() {
            for (name, (outputs, inputs)) in PROJECTIONS.into_iter().zip(shapes) {
                self.stack(stacked(path, name), experts, outputs, inputs)?;
            }
        } else {
            for expert in 0..experts {
                for (name, (outputs, inputs)) in of.names.expert.into_iter().zip(shapes) {
                    let path = format!("{path}.experts.{expert}.{name}");
                    self.matrix(path, ModuleKind::Linear, outputs, inputs, false)?;
                }
            }
        }
        if let Some(shared) = of.shared {
            self.mlp(&format!("{path}.{}", of.names.shared), hidden, shared.inner, false)?;
            if shared.gated {
                self.linears(path, &[(of.names.shared_gate, 1, hidden, false)])?;
            }
        }
        Ok(())
    }

    /// Products below `path`: name, outputs, inputs, whether there is a bias.
    fn linears(&mut self, path: &str, all: &[(&str, usize, usize, bool)]) -> Result<(), LoadError> {
        all.iter().try_for_each(|&(name, outputs, inputs, bias)| {
            self.matrix(format!("{path}.{name}"), ModuleKind::Linear, outputs, inputs, bias)
        })
    }

    fn norm(&mut self, path: String, length: usize) -> Result<(), LoadError> {
        let dtype = self.floats(format!("{path}.weight"), &[length])?;
        self.insert(path, self.norm, length, false, dtype);
        Ok(())
    }

    fn vector(&mut self, name: String, length: usize) -> Result<(), LoadError> {
        let dtype = self.floats(name.clone(), &[length])?;
        self.insert(name, ModuleKind::Vector, length, false, dtype);
        Ok(())
    }

    fn insert(&mut self, path: String, kind: ModuleKind, length: usize, bias: bool, dtype: Dtype) {
        let storage = Storage::Dense(dtype);
        self.modules.insert(path, Module { kind, parts: 1, outputs: length, inputs: 1, storage, bias });
    }

    fn matrix(
        &mut self,
        path: String,
        kind: ModuleKind,
        outputs: usize,
        inputs: usize,
        bias: bool,
    ) -> Result<(), LoadError> {
        let storage = self.storage(&path, &[outputs], inputs)?;
        if bias {
            self.floats(format!("{path}.bias"), &[outputs])?;
        }
        self.modules.insert(path, Module { kind, parts: 1, outputs, inputs, storage, bias });
        Ok(())
    }

    /// Several matrices in one tensor.
    fn stack(&mut self, path: String, parts: usize, outputs: usize, inputs: usize) -> Result<(), LoadError> {
        let storage = self.storage(&path, &[parts, outputs], inputs)?;
        let kind = ModuleKind::Linear;
        self.modules.insert(path, Module { kind, parts, outputs, inputs, storage, bias: false });
        Ok(())
    }

    /// How the matrices of `rows` rows (all dimensions but the last) are stored.
    fn storage(&mut self, path: &str, rows: &[usize], inputs: usize) -> Result<Storage, LoadError> {
        // The tensors say whether a module is quantised: recipes leave modules out without saying so.
        if let Some(scales) = self.checkpoint.get(&format!("{path}.scales")) {
            return self.quantized(path, scales, rows, inputs);
        }
        if self.checkpoint.get(&format!("{path}.weight_packed")).is_some() {
            return self.packed(path, rows, inputs);
        }
        match self.checkpoint.get(&format!("{path}.weight")).map(|weight| weight.dtype) {
            Some(Dtype::F8_E4M3) => self.float8(path, rows, inputs),
            _ => Ok(Storage::Dense(self.floats(format!("{path}.weight"), &[rows, &[inputs]].concat())?)),
        }
    }

    fn quantized(
        &mut self,
        path: &str,
        scales: TensorView<'a>,
        rows: &[usize],
        inputs: usize,
    ) -> Result<Storage, LoadError> {
        let codes = self.take(format!("{path}.weight"))?;
        let (Some((&words, code_rows)), Some((&groups, scale_rows))) =
            (codes.shape.split_last(), scales.shape.split_last())
        else {
            return Err(LoadError::invalid(codes.name, "codes or scales without a shape"));
        };
        if codes.dtype != Dtype::U32 {
            return Err(LoadError::invalid(codes.name, format!("codes are {:?}, expected U32", codes.dtype)));
        }
        if (code_rows, scale_rows) != (rows, rows) {
            let reason =
                format!("codes {:?} and scales {:?}, expected {rows:?} rows of each", codes.shape, scales.shape);
            return Err(LoadError::invalid(codes.name, reason));
        }
        let micro = scales.dtype == Dtype::U8;
        match self.config.quantization.of_module(path, micro, words, groups, inputs)? {
            Setting::Affine(quantization) => {
                let shape = [rows, &[groups]].concat();
                self.floats(format!("{path}.scales"), &shape)?;
                self.floats(format!("{path}.biases"), &shape)?;
                Ok(Storage::Affine(quantization))
            }
            Setting::Micro(format) => {
                self.take(format!("{path}.scales"))?;
                let global = format!("{path}.{GLOBAL_SCALE}");
                if format != Microscaling::Nvfp4 || self.checkpoint.get(&global).is_none() {
                    return Ok(Storage::Micro(format));
                }
                let (global, parts) = (self.take(global)?, if let [parts, _] = rows { *parts } else { 1 });
                if global.dtype != Dtype::F32 || ![1, parts].contains(&global.elements()) {
                    let reason = format!("{:?} {:?}, expected 1 or {parts} of F32", global.dtype, global.shape);
                    return Err(LoadError::invalid(global.name, reason));
                }
                Ok(Storage::ScaledNvfp4)
            }
        }
    }

    fn packed(&mut self, path: &str, rows: &[usize], inputs: usize) -> Result<Storage, LoadError> {
        let [codes, scales, shape] =
            ["weight_packed", "weight_scale", "weight_shape"].map(|name| self.take(format!("{path}.{name}")));
        let (codes, scales, shape) = (codes?, scales?, shape?);
        let &[outputs] = rows else {
            return Err(LoadError::quantization(codes.name, "a stack of matrices"));
        };
        if codes.dtype != Dtype::I32 {
            return Err(LoadError::quantization(format!("type of {}", codes.name), format!("{:?}", codes.dtype)));
        }
        if !is_float(scales.dtype) {
            return Err(LoadError::quantization(format!("type of {}", scales.name), format!("{:?}", scales.dtype)));
        }
        if whole_numbers(&shape).is_none_or(|shape| shape != [outputs as u64, inputs as u64]) {
            return Err(LoadError::invalid(shape.name, format!("not the shape {:?}", [outputs, inputs])));
        }
        let groups = scales.shape.last().copied().unwrap_or(0);
        if codes.shape != [outputs, inputs * PACKED_BITS / 32]
            || scales.shape != [outputs, groups]
            || groups == 0
            || !inputs.is_multiple_of(groups)
            || !inputs.is_multiple_of(32 / PACKED_BITS)
        {
            let reason = format!(
                "codes {:?} and scales {:?} are not those of {:?}",
                codes.shape,
                scales.shape,
                [outputs, inputs]
            );
            return Err(LoadError::invalid(codes.name, reason));
        }
        let quantization = Quantization { bits: PACKED_BITS, group_size: inputs / groups };
        if !self.config.quantization.packs(quantization) {
            let reason = format!("the shapes say {quantization}, of which config.json knows nothing");
            return Err(LoadError::invalid(codes.name, reason));
        }
        Ok(Storage::Packed(quantization))
    }

    fn float8(&mut self, path: &str, rows: &[usize], inputs: usize) -> Result<Storage, LoadError> {
        let codes = self.take(format!("{path}.weight"))?;
        let &[outputs] = rows else {
            return Err(LoadError::quantization(format!("type of {}", codes.name), "F8_E4M3, in a stack of matrices"));
        };
        if codes.shape != [outputs, inputs] {
            let reason = format!("shape {:?}, expected {:?}", codes.shape, [outputs, inputs]);
            return Err(LoadError::invalid(codes.name, reason));
        }
        let scales = self.take(format!("{path}.{FLOAT8_SCALES}"))?;
        if !is_float(scales.dtype) {
            return Err(LoadError::quantization(format!("type of {}", scales.name), format!("{:?}", scales.dtype)));
        }
        let blocks = self.config.quantization.float8();
        let fits = |format: &Float8| scales.shape == format.scales(outputs, inputs);
        match blocks.filter(fits) {
            Some(blocks) => Ok(Storage::Float8(blocks)),
            None if scales.elements() == 1 => Ok(Storage::Float8(Float8::Whole)),
            None => {
                let expected = blocks.map_or_else(
                    || "but config.json names no `weight_block_size`".to_owned(),
                    |blocks| format!("expected {:?}", blocks.scales(outputs, inputs)),
                );
                Err(LoadError::invalid(scales.name, format!("shape {:?}, {expected}", scales.shape)))
            }
        }
    }

    /// Checks a float tensor and returns its type.
    fn floats(&mut self, name: String, shape: &[usize]) -> Result<Dtype, LoadError> {
        let tensor = self.take(name)?;
        if !is_float(tensor.dtype) {
            return Err(match tensor.dtype {
                Dtype::U32 => LoadError::invalid(tensor.name, "codes without scales"),
                other => LoadError::quantization(format!("type of {}", tensor.name), format!("{other:?}")),
            });
        }
        if tensor.shape != shape {
            return Err(LoadError::invalid(tensor.name, format!("shape {:?}, expected {shape:?}", tensor.shape)));
        }
        Ok(tensor.dtype)
    }

    fn take(&mut self, name: String) -> Result<TensorView<'a>, LoadError> {
        let tensor = self.checkpoint.tensor(&name)?;
        self.used.insert(name);
        Ok(tensor)
    }
}

/// The weights of a convolution over time.
const CONVOLUTION: &str = "conv1d.weight";

/// Whether a converter for MLX has rewritten the tensors: it puts the channels of a convolution last, and adds what was
/// taken from norms.
fn is_converted(checkpoint: &Checkpoint) -> bool {
    let convolution = checkpoint.names().find(|name| name.ends_with(CONVOLUTION)).and_then(|name| checkpoint.get(name));
    convolution.is_some_and(|tensor| tensor.shape.last() == Some(&1) && tensor.shape.get(1) != Some(&1))
}

/// The elements of a small tensor of whole numbers; none if they are of another type.
fn whole_numbers(tensor: &TensorView<'_>) -> Option<Vec<u64>> {
    let bytes = tensor.data;
    match tensor.dtype {
        Dtype::I32 => bytes.as_chunks().0.iter().map(|n| u64::try_from(i32::from_le_bytes(*n)).ok()).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|n| u64::try_from(i64::from_le_bytes(*n)).ok()).collect(),
        _ => None,
    }
}
