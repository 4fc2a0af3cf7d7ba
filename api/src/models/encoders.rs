use super::{EncoderModel, LoadFailure, Loader, Registry};
use crate::catalog;
use crate::config::{Config, ModelsConfig};
use crate::error::ApiError;
use crate::openai::response::ModelEntry;
use dashmap::DashMap;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use lmx_runtime::checkpoint::LoadError;
use lmx_runtime::model::encoder::EncoderTask;
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A load that all requests for one model wait for.
type Loading = Shared<BoxFuture<'static, Result<Arc<EncoderModel>, Arc<LoadFailure>>>>;

/// How long a failed load answers for the next ones.
const FAILURE_STAYS: Duration = Duration::from_secs(10);
/// How often idle models are looked for.
const LOOK_FOR_IDLE: Duration = Duration::from_secs(1);

/// The embedding and reranking models that serve, by name. A request for one that is not there loads it.
pub struct Encoders {
    models: DashMap<String, Entry>,
    loads: Mutex<HashMap<String, Loading>>,
    failed: DashMap<String, (Instant, Arc<LoadFailure>)>,
    loader: OnceLock<Arc<Loader>>,
    config: ModelsConfig,
    aliases: BTreeMap<String, Vec<String>>,
    ttl: Option<Duration>,
}

#[derive(Clone)]
struct Entry {
    model: Arc<EncoderModel>,
    /// Whether it stays when nobody asks for it: it was loaded at start.
    stays: bool,
}

impl Encoders {
    /// None yet.
    pub fn new(config: &Config) -> Self {
        Self {
            models: DashMap::new(),
            loads: Mutex::default(),
            failed: DashMap::new(),
            loader: OnceLock::new(),
            config: config.models.clone(),
            aliases: config.routing.aliases.clone(),
            ttl: config.memory.ttl(),
        }
    }

    /// Lets requests load models from now on, as far as the configuration does.
    pub fn connect(&self, loader: Arc<Loader>) {
        // A server has one.
        let _ = self.loader.set(loader);
    }

    /// Lets requests find a model that was loaded at start.
    pub fn insert(&self, model: EncoderModel) {
        let entry = Entry { model: Arc::new(model), stays: true };
        self.models.insert(entry.model.id().to_owned(), entry);
    }

    /// The embedding model of a request, or, with `rerank`, the reranking model: by its id, by an alias, or, for requests that
    /// name none, the first that there is.
    ///
    /// # Errors
    /// [`ApiError::ModelNotFound`], [`ApiError::ModelFailed`], [`ApiError::Invalid`] for a model of another kind.
    pub async fn get(
        self: &Arc<Self>,
        name: Option<&str>,
        rerank: bool,
        chats: &Registry,
    ) -> Result<Arc<EncoderModel>, ApiError> {
        let model = match name.filter(|name| !name.is_empty()) {
            Some(name) => self.named(name, chats).await?,
            None => {
                let fits = |model: &Arc<EncoderModel>| (model.task() != EncoderTask::Embed) == rerank;
                let first = self.all().into_iter().find(fits);
                first.ok_or_else(|| ApiError::ModelNotFound { model: "default".to_owned() })?
            }
        };
        match (model.task(), rerank) {
            (EncoderTask::Embed, true) => Err(other_kind(model.id(), "an embedding model, not a reranker")),
            (EncoderTask::Score | EncoderTask::YesNo | EncoderTask::Listwise, false) => {
                Err(other_kind(model.id(), "a reranker, not an embedding model"))
            }
            _ => Ok(model),
        }
    }

    async fn named(self: &Arc<Self>, name: &str, chats: &Registry) -> Result<Arc<EncoderModel>, ApiError> {
        if let Some(model) = self.loaded(name) {
            return Ok(model);
        }
        if chats.holds(name) {
            return Err(other_kind(name, "a chat model"));
        }
        let listed = self.aliases.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut failure = None;
        for id in std::iter::once(name).chain(listed.iter().map(String::as_str)) {
            match self.load(id).await {
                Some(Ok(model)) => return Ok(model),
                Some(Err(error)) => failure = failure.or(Some((id.to_owned(), error))),
                None => {}
            }
        }
        Err(match failure {
            None => ApiError::ModelNotFound { model: name.to_owned() },
            Some((_, error)) if matches!(*error, LoadFailure::NoEncoder) => other_kind(name, "a chat model"),
            Some((model, error)) => {
                ApiError::ModelFailed { model, outcome: error.outcome(), reason: error.to_string() }
            }
        })
    }

    /// A model that is there, by its id, an alias of the configuration or that of its preset.
    pub fn loaded(&self, name: &str) -> Option<Arc<EncoderModel>> {
        let listed = self.aliases.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut candidates = std::iter::once(name).chain(listed.iter().map(String::as_str));
        let by_id = candidates.find_map(|id| Some(self.models.get(id)?.model.clone()));
        by_id.or_else(|| self.all().into_iter().find(|model| model.alias() == Some(name)))
    }

    /// Loads a model whose files are here, or waits for the load that is under way; `None` if there are none, or requests
    /// load nothing.
    async fn load(self: &Arc<Self>, id: &str) -> Option<Result<Arc<EncoderModel>, Arc<LoadFailure>>> {
        let plain = Path::new(id).components().all(|part| matches!(part, Component::Normal(_)));
        let loader = self.loader.get().filter(|_| self.config.load_on_request && plain)?;
        if let Some(failed) = self.failed.get(id).filter(|failed| failed.0.elapsed() < FAILURE_STAYS) {
            return Some(Err(failed.1.clone()));
        }
        let under_way = self.loads().get(id).cloned();
        let loading = match under_way {
            Some(loading) => loading,
            None => match catalog::resolve(id, &self.config) {
                // Only what stands in the folders of models: a request does not name paths.
                Ok(lmx_runtime::checkpoint::Source::Folder(folder)) if folder == Path::new(id) => return None,
                Err(LoadError::ModelNotFound { .. }) => return None,
                Err(error) => return Some(Err(Arc::new(error.into()))),
                Ok(source) => self.begin(id, loader, source),
            },
        };
        Some(loading.await)
    }

    /// Begins a load, unless another request has begun it meanwhile.
    fn begin(self: &Arc<Self>, id: &str, loader: &Arc<Loader>, source: lmx_runtime::checkpoint::Source) -> Loading {
        let mut loads = self.loads();
        if let Some(loading) = loads.get(id) {
            return loading.clone();
        }
        let (encoders, loader, id) = (self.clone(), loader.clone(), id.to_owned());
        let name = id.clone();
        let load = async move {
            let begun = loader.load_encoder(&id, source, encoders.memory_bytes()).await;
            let loaded = begun.map(Arc::new).map_err(Arc::new);
            match &loaded {
                Ok(model) => {
                    let entry = Entry { model: model.clone(), stays: false };
                    encoders.failed.remove(&id);
                    encoders.models.insert(id.clone(), entry);
                }
                Err(error) => {
                    tracing::error!(model = id, outcome = error.outcome(), %error, "the model is not loaded");
                    encoders.failed.insert(id.clone(), (Instant::now(), error.clone()));
                }
            }
            encoders.loads().remove(&id);
            loaded
        };
        let loading = load.boxed().shared();
        loads.insert(name, loading.clone());
        // It goes on when all who wait for it have left.
        actix_rt::spawn(loading.clone());
        loading
    }

    /// Lets go, again and again, what nobody has asked for in the configured time. Runs in the current system.
    pub fn start_expiry(self: &Arc<Self>) {
        let Some(ttl) = self.ttl else { return };
        let encoders = Arc::downgrade(self);
        actix_rt::spawn(async move {
            let mut tick = tokio::time::interval(LOOK_FOR_IDLE.min(ttl));
            loop {
                tick.tick().await;
                let Some(encoders) = encoders.upgrade() else { return };
                encoders.models.retain(|id, entry| {
                    let goes = !entry.stays && entry.model.cell().idle() > ttl;
                    if goes {
                        tracing::info!(model = id, reason = "ttl", "model unloaded");
                    }
                    !goes
                });
            }
        });
    }

    /// All models, by id.
    pub fn all(&self) -> Vec<Arc<EncoderModel>> {
        let mut models: Vec<_> = self.models.iter().map(|entry| entry.model.clone()).collect();
        models.sort_by(|a, b| a.id().cmp(b.id()));
        models
    }

    /// Their entries in the list of models.
    pub fn entries(&self) -> Vec<ModelEntry> {
        self.all().iter().map(|model| model.entry()).collect()
    }

    /// Bytes that they take.
    pub fn memory_bytes(&self) -> u64 {
        self.models.iter().map(|entry| entry.model.memory_bytes()).sum()
    }

    /// How many are on their way.
    pub fn loading(&self) -> usize {
        self.loads().len()
    }

    fn loads(&self) -> MutexGuard<'_, HashMap<String, Loading>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn other_kind(id: &str, what: &str) -> ApiError {
    ApiError::invalid("model", format!("`{id}` is {what}"))
}
