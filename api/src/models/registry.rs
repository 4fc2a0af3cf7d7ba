use super::{LoadFailure, LoadedModel};
use crate::config::{ModelsConfig, RoutingConfig};
use crate::error::ApiError;
use crate::openai::response::ModelEntry;
use dashmap::DashMap;
use std::sync::{Arc, OnceLock};

/// The models that serve, by name. Read by every request, written when a model comes or goes.
#[derive(Default)]
pub struct Registry {
    models: DashMap<String, Arc<LoadedModel>>,
    /// Names of models that are on their way.
    loading: DashMap<String, ()>,
    /// Why models are not there that should be: outcome and reason.
    failed: DashMap<String, (&'static str, String)>,
    first: OnceLock<String>,
    aliases: Vec<(String, Vec<String>)>,
    default: Option<String>,
}

impl Registry {
    /// An empty registry that knows the configuration's aliases and default.
    pub fn new(models: &ModelsConfig, routing: &RoutingConfig) -> Self {
        let aliases = routing.aliases.iter().map(|(name, ids)| (name.clone(), ids.clone())).collect();
        let default = routing.default.clone().or_else(|| models.default_model.clone());
        Self { aliases, default, ..Self::default() }
    }

    /// Lets requests find a model, also under its preset's alias.
    pub fn insert(&self, model: LoadedModel) {
        let id = model.id().to_owned();
        // The first one stays the default, whoever comes later.
        let _ = self.first.set(id.clone());
        self.loading.remove(&id);
        self.failed.remove(&id);
        self.models.insert(id, Arc::new(model));
    }

    /// Notes that a model is on its way: requests for it are told to come back.
    pub fn announce(&self, id: &str) {
        self.loading.insert(id.to_owned(), ());
    }

    /// Takes an announcement back: requests for the model are told why from now on.
    pub fn fail(&self, id: &str, failure: &LoadFailure) {
        self.failed.insert(id.to_owned(), (failure.outcome(), failure.to_string()));
        self.loading.remove(id);
    }

    /// The model of a request: by its id, by an alias of the configuration, by that of its preset, or the default for
    /// requests that name none.
    ///
    /// # Errors
    /// [`ApiError::ModelNotFound`], [`ApiError::ModelLoading`] or [`ApiError::ModelFailed`].
    pub fn find(&self, name: Option<&str>) -> Result<Arc<LoadedModel>, ApiError> {
        let name = name.filter(|name| !name.is_empty());
        let Some(asked) = name.or(self.default.as_deref()).or(self.first.get().map(String::as_str)) else {
            return Err(match self.loading.iter().next() {
                Some(loading) => still_loading(loading.key()),
                None => ApiError::ModelNotFound { model: "default".to_owned() },
            });
        };
        let listed = self.aliases.iter().find(|(alias, _)| alias == asked).map(|(_, ids)| ids.as_slice());
        let candidates = std::iter::once(asked).chain(listed.into_iter().flatten().map(String::as_str));
        for id in candidates.clone() {
            if let Some(model) = self.models.get(id) {
                return Ok(model.clone());
            }
        }
        if let Some(model) = self.models.iter().find(|model| model.alias() == Some(asked)) {
            return Ok(model.clone());
        }
        for id in candidates {
            if self.loading.contains_key(id) {
                return Err(still_loading(id));
            }
            if let Some(failure) = self.failed.get(id) {
                let (outcome, reason) = failure.value().clone();
                return Err(ApiError::ModelFailed { model: id.to_owned(), outcome, reason });
            }
        }
        Err(ApiError::ModelNotFound { model: asked.to_owned() })
    }

    /// Whether a model answers to this name, now or once it is loaded.
    pub fn holds(&self, name: &str) -> bool {
        let listed = self.aliases.iter().find(|(alias, _)| alias == name).map(|(_, ids)| ids.as_slice());
        let mut candidates = std::iter::once(name).chain(listed.into_iter().flatten().map(String::as_str));
        candidates.any(|id| self.models.contains_key(id) || self.loading.contains_key(id))
            || self.models.iter().any(|model| model.alias() == Some(name))
    }

    /// Takes an announcement back: the model serves elsewhere.
    pub fn forget(&self, id: &str) {
        self.loading.remove(id);
    }

    /// Bytes that they take: weights, and what is kept of sequences.
    pub fn memory_bytes(&self) -> u64 {
        self.models.iter().map(|model| model.memory_bytes()).sum()
    }

    /// All models, by id.
    pub fn all(&self) -> Vec<Arc<LoadedModel>> {
        let mut models: Vec<_> = self.models.iter().map(|model| model.clone()).collect();
        models.sort_by(|a, b| a.id().cmp(b.id()));
        models
    }

    /// Their entries, the default first: routers register the first one.
    pub fn entries(&self) -> Vec<ModelEntry> {
        let default = self.find(None).ok();
        let mut models = self.all();
        models.sort_by_key(|model| default.as_ref().is_none_or(|default| default.id() != model.id()));
        models.iter().map(|model| model.entry()).collect()
    }

    /// How many are on their way.
    pub fn loading(&self) -> usize {
        self.loading.len()
    }
}

fn still_loading(id: &str) -> ApiError {
    ApiError::ModelLoading { model: id.to_owned(), retry_after: std::time::Duration::from_secs(2) }
}
