use super::candle::{self, CandleForward, CandleModel};
use super::native::{self, NativeForward, NativeModel};
use super::{Forward, KvShape, LoadProgress};
use crate::checkpoint::{Checkpoint, LoadError};
use crate::config::{ComputeConfig, ComputeMode, Executor, InvalidSetting, KvFormat};
use crate::kernels::Form;
use crate::model::{Blueprint, ModelFacts};
use candle_core::Device;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Who computes on this machine, and how exactly.
#[derive(Debug, Clone)]
pub struct Backend {
    mode: ComputeMode,
    who: Who,
}

#[derive(Debug, Clone)]
enum Who {
    Candle(Device),
    Native { form: Form, threads: NonZeroUsize },
}

/// A loaded model: immutable weights, which survive the executors that compute with them.
#[derive(Debug, Clone)]
pub enum Model {
    /// On a device of candle.
    Candle(Arc<CandleModel>),
    /// For the kernels of this program.
    Native {
        /// The weights.
        model: Arc<NativeModel>,
        /// The kernels' instructions.
        form: Form,
        /// Threads of an executor.
        threads: NonZeroUsize,
    },
}

impl Backend {
    /// Decides from the configuration and the machine.
    ///
    /// # Errors
    /// [`InvalidSetting`] for what the chosen executor cannot do.
    pub fn choose(compute: &ComputeConfig) -> Result<Self, InvalidSetting> {
        let device = candle::pick();
        let native = match compute.executor {
            Executor::Auto => device.is_cpu(),
            Executor::Native => true,
            Executor::Candle => false,
        };
        let mode = compute.mode;
        if !native && device.is_cpu() && mode == ComputeMode::Int16 {
            return Err(InvalidSetting {
                key: "compute.mode",
                reason: "the candle executor rounds activations to 8 bits on CPUs: choose int8 or f32".to_owned(),
            });
        }
        let who = if native {
            let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            Who::Native { form: Form::best(), threads: compute.threads.unwrap_or(cores) }
        } else {
            Who::Candle(device)
        };
        Ok(Self { mode, who })
    }

    /// What computes, for people: `native int16 (AVX-512 VNNI, 2 threads)`.
    pub fn describe(&self) -> String {
        match &self.who {
            Who::Candle(device) => format!("candle {} ({:?})", self.mode, device.location()),
            Who::Native { form, threads } => format!("native {} ({form}, {threads} threads)", self.mode),
        }
    }

    /// Bytes that the weights of a model take once it is loaded, from the tensor index alone.
    pub fn weights_bytes(&self, blueprint: &Blueprint) -> u64 {
        match &self.who {
            Who::Candle(device) => candle::estimate_memory(blueprint, device, self.mode).total(),
            Who::Native { .. } => native::weights_bytes(blueprint),
        }
    }

    /// Sizes of the KV memory that a model gets.
    ///
    /// # Errors
    /// [`InvalidSetting`] for a format that the executor or the model does not go with.
    pub fn kv_shape(&self, blueprint: &Blueprint, format: &KvFormat) -> Result<KvShape, InvalidSetting> {
        match &self.who {
            Who::Candle(_) if format.codes.is_some() => Err(InvalidSetting {
                key: "kv.bits",
                reason: "the candle executor does not quantise keys and values: set 16, or compute.executor to native"
                    .to_owned(),
            }),
            Who::Candle(device) => {
                let token_bytes = candle::kv_bytes_per_token(&ModelFacts::of(blueprint), device, self.mode);
                let block_tokens = format.block_tokens.get();
                Ok(KvShape { spans: block_tokens.into(), block_bytes: token_bytes * block_tokens })
            }
            Who::Native { .. } => native::kv_shape(&blueprint.spec, self.mode, format),
        }
    }

    /// Loads a model. `progress` is called after every tensor.
    ///
    /// # Errors
    /// [`LoadError`], before anything is allocated if the checkpoint is at fault.
    pub fn load(&self, checkpoint: &Checkpoint, progress: &mut dyn FnMut(LoadProgress)) -> Result<Model, LoadError> {
        match &self.who {
            Who::Candle(device) => CandleModel::load(checkpoint, device, self.mode, progress).map(Model::Candle),
            &Who::Native { form, threads } => {
                let model = NativeModel::load(checkpoint, self.mode, threads, progress)?;
                Ok(Model::Native { model, form, threads })
            }
        }
    }
}

impl Model {
    /// What the model is.
    pub fn facts(&self) -> &ModelFacts {
        match self {
            Self::Candle(model) => model.facts(),
            Self::Native { model, .. } => model.facts(),
        }
    }

    /// Bytes of weights that every step reads; `None` where the executor does not lay them out itself.
    pub fn step_bytes(&self) -> Option<u64> {
        match self {
            Self::Candle(_) => None,
            Self::Native { model, .. } => Some(model.step_bytes()),
        }
    }

    /// An executor with empty KV memory of `num_blocks` blocks, in a format that [`Backend::kv_shape`] takes.
    ///
    /// # Errors
    /// [`LoadError`] if the device or the system has no room for it.
    pub fn forward(&self, num_blocks: NonZeroUsize, format: &KvFormat) -> Result<Box<dyn Forward>, LoadError> {
        Ok(match self {
            Self::Candle(model) => Box::new(CandleForward::new(model.clone(), num_blocks, format.block_tokens)?),
            &Self::Native { ref model, form, threads } => {
                Box::new(NativeForward::new(model.clone(), form, threads, num_blocks, format)?)
            }
        })
    }
}
