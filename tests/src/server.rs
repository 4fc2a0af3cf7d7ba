//! A whole server in this process, on a port of its own, over the fake model.

use crate::{Client, until};
use lmx_actors::cell::{ActorSystem, Cell, CellSpec, MailboxCapacities};
use lmx_actors::engine::ForwardFactory;
use lmx_api::config::{Loaded, Surroundings};
use lmx_api::models::{LoadedModel, ModelParts, TextPool};
use lmx_api::presets::Presets;
use lmx_api::server;
use lmx_api::state::AppState;
use lmx_api::telemetry::Metrics;
use lmx_runtime::runner::{AnswerScript, FakeConfig, FakeForward, FaultScript};
use lmx_runtime::scheduler::Limits;
use lmx_runtime::text::{ChatTemplate, Chosen, Conventions, TemplateFiles, Tokenizer};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// What is different from the defaults.
pub struct TestSetup {
    /// Pace, sizes and faults of the model.
    pub fake: FakeConfig,
    /// The configuration; the model's scheduler is taken from it too.
    pub loaded: Loaded,
    /// Mailbox sizes.
    pub mailboxes: MailboxCapacities,
    /// Whose tokenizer and chat template the model has.
    pub family: &'static str,
}

impl Default for TestSetup {
    fn default() -> Self {
        let mut loaded = Loaded::built_in(&Surroundings::default());
        loaded.config.server.shutdown_grace_sec = 5;
        Self { fake: FakeConfig::new(512, 16), loaded, mailboxes: MailboxCapacities::default(), family: "llama" }
    }
}

impl TestSetup {
    /// A model of this family, which says what it is made to say.
    pub fn scripted(family: &'static str) -> Self {
        let mut setup = Self { family, ..Self::default() };
        // Its markers are tokens beyond the fake's own vocabulary.
        setup.fake.shape.vocab_size = 512;
        setup
    }

    /// A model that takes this long for a step and for each token of it.
    pub fn paced(step: Duration, token: Duration) -> Self {
        let mut setup = Self::default();
        (setup.fake.step, setup.fake.token) = (step, token);
        setup
    }
}

/// A server over the fake model; stopped in order when it is dropped.
pub struct TestServer {
    /// A client of it.
    pub client: Client,
    /// The model's name, which no other server of this process has.
    pub model: String,
    /// What goes wrong in steps to come.
    pub faults: FaultScript,
    /// What the model says.
    pub answers: AnswerScript,
    /// How texts become tokens.
    pub tokenizer: Arc<Tokenizer>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Small tokenizers and chat templates in the style of the families.
fn data(family: &str, file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/data/text").join(family);
    std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{family}/{file}: {error}"))
}

fn tokenizer(family: &str) -> Arc<Tokenizer> {
    let (json, config) = (data(family, "tokenizer.json"), data(family, "tokenizer_config.json"));
    Arc::new(Tokenizer::from_bytes(&json, Some(&config)).expect("a tokenizer"))
}

impl TestServer {
    /// Starts a server and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(setup: TestSetup) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let model = format!("fake-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let client = Client::new(listener.local_addr().expect("a bound listener has an address"));
        let (faults, answers) = (setup.fake.faults.clone(), setup.fake.answers.clone());
        let tokenizer = tokenizer(setup.family);
        let (stop, stopped) = oneshot::channel();
        let name = model.clone();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let state = state(setup, &name);
                let running = server::serve(state.clone(), listener).expect("the server starts");
                let handle = running.handle();
                let running = actix_rt::spawn(running);
                // A dropped sender stops the server as well.
                let _ = stopped.await;
                server::shut_down(&state, &handle).await;
                running.await.expect("the server task ends").expect("the server ends well");
            });
        });
        until("the server is ready", || client.get("/readyz").status == 200);
        Self { client, model, faults, answers, tokenizer, stop: Some(stop), thread: Some(thread) }
    }

    /// Lets prompts that end with the text `ending` be answered by the tokens of `answer`.
    ///
    /// # Panics
    /// If the tokenizer cannot represent them.
    pub fn script(&self, ending: &str, answer: &str) {
        let ids = |text: &str| self.tokenizer.encode(text, false).expect("a text of the vocabulary");
        self.answers.push(ids(ending), ids(answer));
    }

    /// Value of a gauge or counter of this server's model; `labels` are those beside `model`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.client.get("/metrics").text;
        let fits = |line: &&str| line.starts_with(name) && line.contains(&self.model) && line.contains(labels);
        let value = text.lines().find(fits).and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or(f64::NAN)
    }

    /// Begins to stop the server, in order.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            // A server that fails to stop has said so on stderr; a second panic would hide the first.
            let _ = thread.join();
        }
    }
}

fn state(setup: TestSetup, model: &str) -> Arc<AppState> {
    let metrics = Metrics::install().expect("metrics can be collected");
    metrics.start_upkeep();
    let system = ActorSystem::start(Box::new(|fatal| panic!("the supervisor gave up: {fatal:?}")));
    let state = AppState::new(setup.loaded.config.clone(), system.clone(), metrics);
    let (tokenizer, tokenizer_config) = (tokenizer(setup.family), data(setup.family, "tokenizer_config.json"));
    let shape = setup.fake.shape;
    let forward: ForwardFactory = Arc::new(move || Ok(Box::new(FakeForward::new(setup.fake.clone()))));
    let spec = CellSpec {
        model: model.to_owned(),
        forward,
        tokenizer: tokenizer.clone(),
        scheduler: setup.loaded.config.scheduler.clone(),
        limits: Limits {
            spans: shape.spans,
            num_blocks: shape.num_blocks,
            num_states: shape.num_states,
            context_tokens: 4096,
        },
        fingerprint: 1,
        prefix_cache: true,
        mailboxes: setup.mailboxes,
    };
    let files = TemplateFiles { tokenizer_config: Some(&tokenizer_config), ..TemplateFiles::default() };
    let template = ChatTemplate::from_files(&files).expect("a chat template");
    let conventions = Conventions::of(template.as_ref(), &tokenizer, Chosen::Detected, Chosen::Detected);
    // The fake's own answers hold any token of its small vocabulary; scripted ones end as the family's do.
    let eos_ids = if shape.vocab_size > 97 { conventions.end_ids.clone() } else { Vec::new() };
    let parts = ModelParts {
        memory_bytes: 0,
        id: model.to_owned(),
        alias: Some(format!("{model}-alias")),
        root: model.to_owned(),
        cell: Cell::start(&system, spec).expect("the actors start"),
        template,
        conventions,
        eos_ids,
        vocab_size: 512,
        preset: Presets::shipped().resolve(model, None, &setup.loaded).expect("no preset fits"),
        text: TextPool::new(2, 64),
    };
    state.models.insert(LoadedModel::new(parts));
    state
}
