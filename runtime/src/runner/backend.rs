use super::candle::{self, CandleForward, CandleModel};
use super::native::{self, LoadOptions, NativeEncode, NativeEncoder, NativeForward, NativeModel};
use super::{Encode, Forward, KvShape, LoadProgress, MemorySize, Threads, cores};
use crate::checkpoint::{Checkpoint, LoadError};
use crate::config::{ComputeConfig, ComputeMode, Executor, HugePages, InvalidSetting, KvFormat};
use crate::kernels::Form;
use crate::model::encoder::EncoderBlueprint;
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
    Native { form: Form, options: LoadOptions },
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
        threads: Threads,
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
            let reason = "the candle executor rounds activations to 8 bits on CPUs: choose int8 or f32";
            return Err(invalid("compute.mode", reason));
        }
        let who = if native {
            let (huge_pages, mapped) = (compute.huge_pages, compute.mapped);
            if huge_pages == HugePages::On && !cfg!(target_os = "linux") {
                return Err(invalid("compute.huge_pages", "this system gives no huge pages: choose auto or off"));
            }
            let threads = Threads::configured(compute)?;
            Who::Native { form: Form::best(), options: LoadOptions { threads, huge_pages, mapped } }
        } else {
            check_candle(compute)?;
            Who::Candle(device)
        };
        Ok(Self { mode, who })
    }

    /// What computes, for people: `native int16 (AVX-512 VNNI, 2 threads)`.
    pub fn describe(&self) -> String {
        match &self.who {
            Who::Candle(device) => format!("candle {} ({:?})", self.mode, device.location()),
            // The same kernels compute both.
            Who::Native { .. } => self.describe_encoder(),
        }
    }

    /// Bytes of memory that the weights of a model take once it is loaded, from the tensor index alone; without what stays
    /// in the file ([`Self::mapped_bytes`]), whose memory the system can take back.
    pub fn weights_bytes(&self, blueprint: &Blueprint) -> u64 {
        match &self.who {
            Who::Candle(device) => candle::estimate_memory(blueprint, device, self.mode).total(),
            Who::Native { options, .. } => native::weights_bytes(blueprint, options.mapped, self.mode),
        }
    }

    /// Bytes of weights that a loaded model leaves in the files of its checkpoint.
    pub fn mapped_bytes(&self, blueprint: &Blueprint, checkpoint: &Checkpoint) -> u64 {
        match &self.who {
            Who::Native { options, .. } if options.mapped => blueprint.modules().stored_bytes(checkpoint),
            Who::Native { .. } | Who::Candle(_) => 0,
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
                let facts = ModelFacts::of(blueprint);
                let (block_bytes, state_bytes) = (token_bytes * block_tokens, candle::state_bytes(&facts));
                Ok(KvShape { spans: block_tokens.into(), block_bytes, state_bytes })
            }
            Who::Native { .. } => native::kv_shape(&blueprint.spec, self.mode, format),
        }
    }

    /// Loads a model. `progress` is called as it goes on.
    ///
    /// # Errors
    /// [`LoadError`], before anything is allocated if the checkpoint is at fault.
    pub fn load(&self, checkpoint: &Checkpoint, progress: &mut dyn FnMut(LoadProgress)) -> Result<Model, LoadError> {
        match &self.who {
            Who::Candle(device) => CandleModel::load(checkpoint, device, self.mode, progress).map(Model::Candle),
            Who::Native { form, options } => {
                let model = NativeModel::load(checkpoint, self.mode, options, progress)?;
                Ok(Model::Native { model, form: *form, threads: options.threads.clone() })
            }
        }
    }
}

/// A loaded encoder: immutable weights, which survive the executors that compute with them.
#[derive(Debug, Clone)]
pub struct Encoder {
    model: Arc<NativeEncoder>,
    form: Form,
    threads: Threads,
}

impl Encoder {
    /// An executor.
    ///
    /// # Errors
    /// [`LoadError`] if the system has no room for it.
    pub fn encode(&self) -> Result<Box<dyn Encode>, LoadError> {
        Ok(Box::new(NativeEncode::new(self.model.clone(), self.form, &self.threads)?))
    }
}

impl Backend {
    /// What computes encoders, for people.
    pub fn describe_encoder(&self) -> String {
        let (form, LoadOptions { threads, mapped, .. }) = self.kernels();
        format!("native {} ({form}, {threads}{})", self.mode, if mapped { ", mapped" } else { "" })
    }

    /// Bytes of memory that the weights of an encoder take once it is loaded, from the tensor index alone; without what
    /// stays in the file ([`Self::encoder_mapped_bytes`]).
    pub fn encoder_bytes(&self, blueprint: &EncoderBlueprint) -> u64 {
        native::encoder_bytes(blueprint, self.kernels().1.mapped, self.mode)
    }

    /// Bytes of weights that a loaded encoder leaves in the files of its checkpoint.
    pub fn encoder_mapped_bytes(&self, blueprint: &EncoderBlueprint, checkpoint: &Checkpoint) -> u64 {
        if self.kernels().1.mapped { blueprint.stored_bytes(checkpoint) } else { 0 }
    }

    /// Loads an encoder; `answers`: see [`NativeEncoder::load`]. `progress` is called as it goes on.
    ///
    /// # Errors
    /// [`LoadError`], before anything is allocated if the checkpoint is at fault.
    pub fn load_encoder(
        &self,
        checkpoint: &Checkpoint,
        blueprint: &EncoderBlueprint,
        answers: Option<[u32; 2]>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Encoder, LoadError> {
        let (form, options) = self.kernels();
        let model = NativeEncoder::load(checkpoint, blueprint, answers, self.mode, &options, progress)?;
        Ok(Encoder { model, form, threads: options.threads })
    }

    /// The kernels of this program: they compute encoders wherever decoders are computed.
    fn kernels(&self) -> (Form, LoadOptions) {
        match &self.who {
            Who::Native { form, options } => (*form, options.clone()),
            Who::Candle(_) => {
                let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
                (Form::best(), Threads::anywhere(cores).into())
            }
        }
    }
}

impl Threads {
    /// Those of the native executor.
    ///
    /// # Errors
    /// [`InvalidSetting`] for cores that do not go with the threads, or that this process may not use.
    pub fn configured(compute: &ComputeConfig) -> Result<Self, InvalidSetting> {
        compute.validate()?;
        let Some(wanted) = &compute.cores else {
            let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            return Ok(Self::anywhere(compute.threads.unwrap_or(cores)));
        };
        let Some(usable) = cores::usable() else {
            return Err(invalid("compute.cores", "this system binds no thread to a core: leave it out"));
        };
        if let Some(core) = wanted.iter().find(|core| !usable.contains(core)) {
            let usable = usable.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            return Err(invalid("compute.cores", &format!("there is no core {core} for this process, only {usable}")));
        }
        let used = compute.threads.map_or(wanted.len(), NonZeroUsize::get);
        Self::on(&wanted[..used]).ok_or_else(|| invalid("compute.cores", "the list is empty"))
    }
}

/// Refuses what candle leaves no choice in.
fn check_candle(compute: &ComputeConfig) -> Result<(), InvalidSetting> {
    let reason = "only the native executor has this choice";
    match compute {
        ComputeConfig { cores: Some(_), .. } => Err(invalid("compute.cores", reason)),
        ComputeConfig { mapped: true, .. } => Err(invalid("compute.mapped", reason)),
        ComputeConfig { huge_pages: HugePages::On | HugePages::Off, .. } => Err(invalid("compute.huge_pages", reason)),
        ComputeConfig { .. } => Ok(()),
    }
}

fn invalid(key: &'static str, reason: &str) -> InvalidSetting {
    InvalidSetting { key, reason: reason.to_owned() }
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

    /// An executor with empty memory of a size, in a format that [`Backend::kv_shape`] takes.
    ///
    /// # Errors
    /// [`LoadError`] if the device or the system has no room for it.
    pub fn forward(&self, size: MemorySize, format: &KvFormat) -> Result<Box<dyn Forward>, LoadError> {
        Ok(match self {
            Self::Candle(model) => Box::new(CandleForward::new(model.clone(), size, format.block_tokens)?),
            Self::Native { model, form, threads } => {
                Box::new(NativeForward::new(model.clone(), *form, threads, size, format)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(compute: ComputeConfig) -> String {
        Backend::choose(&compute).unwrap_err().to_string()
    }

    #[test]
    fn candle_refuses_what_only_the_native_executor_can_do() {
        let candle =
            || ComputeConfig { executor: Executor::Candle, mode: ComputeMode::F32, ..ComputeConfig::default() };
        assert!(refused(ComputeConfig { mapped: true, ..candle() }).starts_with("`compute.mapped`"));
        assert!(refused(ComputeConfig { cores: Some(vec![0]), ..candle() }).starts_with("`compute.cores`"));
        let off = ComputeConfig { huge_pages: HugePages::Off, ..candle() };
        assert!(refused(off).starts_with("`compute.huge_pages`"));
    }

    #[test]
    fn cores_are_checked_against_the_machine_and_make_the_threads() {
        let on = |cores: Vec<usize>| ComputeConfig {
            executor: Executor::Native,
            cores: Some(cores),
            ..ComputeConfig::default()
        };
        assert!(refused(on(vec![100_000])).starts_with("`compute.cores`"));
        if let Some(usable) = cores::usable() {
            let backend = Backend::choose(&on(usable.clone())).unwrap();
            let Who::Native { options, .. } = &backend.who else { panic!("{backend:?}") };
            assert_eq!(Some(&options.threads), Threads::on(&usable).as_ref());
        }
    }

    #[test]
    fn mapped_weights_are_counted_apart() {
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/llama-q4g64/model");
        let checkpoint = Checkpoint::open(&crate::checkpoint::Source::Folder(fixture)).unwrap();
        let blueprint = Blueprint::read(&checkpoint).unwrap();
        let bytes = |mapped| {
            let compute = ComputeConfig { executor: Executor::Native, mapped, ..ComputeConfig::default() };
            let backend = Backend::choose(&compute).unwrap();
            (backend.weights_bytes(&blueprint), backend.mapped_bytes(&blueprint, &checkpoint))
        };
        let ((packed, none), (rest, mapped)) = (bytes(false), bytes(true));
        assert_eq!((none, mapped), (0, blueprint.modules().stored_bytes(&checkpoint)));
        assert!(rest < packed / 20, "{rest} of {packed} bytes are norms");
    }
}
