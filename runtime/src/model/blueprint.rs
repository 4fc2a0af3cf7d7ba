use super::affine::AffineMatrix;
use super::config::ModelConfig;
use super::family::Family;
use super::keys::{Keys, is_skipped};
use super::micro::{MicroMatrix, Microscaling};
use super::quantization::{Quantization, Setting};
use super::spec::{DecoderSpec, LayerSpec};
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
}

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// As floats.
    Dense(Dtype),
    /// As MLX affine codes.
    Affine(Quantization),
    /// As small floats with a scale per group.
    Micro(Microscaling),
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

        let mut survey = Survey { checkpoint, config: &config, modules: BTreeMap::new(), used: BTreeSet::new() };
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
            if tied_head || is_skipped(name, &keys.prefix, spec.layers.len()) {
                skipped += 1;
            } else {
                unexpected.push(name.to_owned());
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
        let parts = self.modules.keys().flat_map(|path| {
            ["weight", "scales", "biases", "bias"].map(|name| checkpoint.get(&format!("{path}.{name}")))
        });
        parts.flatten().map(|tensor| tensor.data.len() as u64).sum()
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

    /// The module at `path`.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the model has none there.
    pub fn module(&self, path: &str) -> Result<&Module, LoadError> {
        self.modules.get(path).ok_or_else(|| LoadError::invalid(path, "the model has no module of this name"))
    }
}

impl Module {
    /// The module's stored matrix.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if `checkpoint` is not the one that the module was read from.
    pub fn weight<'a>(&self, checkpoint: &'a Checkpoint, path: &str) -> Result<Weight<'a>, LoadError> {
        let tensor = |name: &str| checkpoint.tensor(&format!("{path}.{name}"));
        Ok(match self.storage {
            Storage::Dense(_) => Weight::Dense(tensor("weight")?),
            Storage::Affine(quantization) => Weight::Affine(AffineMatrix {
                quantization,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight")?,
                scales: tensor("scales")?,
                biases: tensor("biases")?,
            }),
            Storage::Micro(format) => Weight::Micro(MicroMatrix {
                format,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight")?,
                scales: tensor("scales")?,
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
}

/// The check in progress: which modules were found and which tensors they use.
struct Survey<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    modules: BTreeMap<String, Module>,
    used: BTreeSet<String>,
}

impl<'a> Survey<'a> {
    fn layer(&mut self, path: &str, spec: &DecoderSpec, layer: &LayerSpec) -> Result<(), LoadError> {
        let attention = &layer.attention;
        let (q_width, kv_width) = (attention.heads * attention.head_dim, attention.kv_width());
        let (hidden, inner) = (spec.hidden, layer.mlp.inner);
        self.norm(format!("{path}.input_layernorm"), hidden)?;
        self.norm(format!("{path}.post_attention_layernorm"), hidden)?;
        if attention.qk_norm {
            self.norm(format!("{path}.self_attn.q_norm"), attention.head_dim)?;
            self.norm(format!("{path}.self_attn.k_norm"), attention.head_dim)?;
        }
        for (name, outputs, inputs, bias) in [
            ("self_attn.q_proj", q_width, hidden, attention.qkv_bias),
            ("self_attn.k_proj", kv_width, hidden, attention.qkv_bias),
            ("self_attn.v_proj", kv_width, hidden, attention.qkv_bias),
            ("self_attn.o_proj", hidden, q_width, attention.out_bias),
            ("mlp.gate_proj", inner, hidden, layer.mlp.bias),
            ("mlp.up_proj", inner, hidden, layer.mlp.bias),
            ("mlp.down_proj", hidden, inner, layer.mlp.bias),
        ] {
            self.matrix(format!("{path}.{name}"), ModuleKind::Linear, outputs, inputs, bias)?;
        }
        Ok(())
    }

    fn norm(&mut self, path: String, length: usize) -> Result<(), LoadError> {
        let dtype = self.floats(format!("{path}.weight"), &[length])?;
        let module =
            Module { kind: ModuleKind::Norm, outputs: length, inputs: 1, storage: Storage::Dense(dtype), bias: false };
        self.modules.insert(path, module);
        Ok(())
    }

    fn matrix(
        &mut self,
        path: String,
        kind: ModuleKind,
        outputs: usize,
        inputs: usize,
        bias: bool,
    ) -> Result<(), LoadError> {
        // A module is quantised if and only if it has scales: recipes leave modules out without saying so.
        let storage = match self.checkpoint.get(&format!("{path}.scales")) {
            Some(scales) => self.quantized(&path, scales, outputs, inputs)?,
            None => Storage::Dense(self.floats(format!("{path}.weight"), &[outputs, inputs])?),
        };
        if bias {
            self.floats(format!("{path}.bias"), &[outputs])?;
        }
        self.modules.insert(path, Module { kind, outputs, inputs, storage, bias });
        Ok(())
    }

    fn quantized(
        &mut self,
        path: &str,
        scales: TensorView<'a>,
        outputs: usize,
        inputs: usize,
    ) -> Result<Storage, LoadError> {
        let codes = self.take(format!("{path}.weight"))?;
        let (&[code_rows, words], &[scale_rows, groups]) = (codes.shape, scales.shape) else {
            let reason = format!("codes {:?} and scales {:?} are no matrices", codes.shape, scales.shape);
            return Err(LoadError::invalid(codes.name, reason));
        };
        if codes.dtype != Dtype::U32 {
            return Err(LoadError::invalid(codes.name, format!("codes are {:?}, expected U32", codes.dtype)));
        }
        if (code_rows, scale_rows) != (outputs, outputs) {
            let reason = format!("{code_rows} rows of codes and {scale_rows} of scales, expected {outputs}");
            return Err(LoadError::invalid(codes.name, reason));
        }
        let micro = scales.dtype == Dtype::U8;
        match self.config.quantization.of_module(path, micro, words, groups, inputs)? {
            Setting::Affine(quantization) => {
                self.floats(format!("{path}.scales"), &[outputs, groups])?;
                self.floats(format!("{path}.biases"), &[outputs, groups])?;
                Ok(Storage::Affine(quantization))
            }
            Setting::Micro(format) => {
                self.take(format!("{path}.scales"))?;
                Ok(Storage::Micro(format))
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
