//! The actor of an embedding model, over an executor that a test leads.

use lmx_actors::cell::ActorSystem;
use lmx_actors::embedding::{EmbeddingCell, EmbeddingSpec, EncodeError};
use lmx_runtime::pooling::Encoded;
use lmx_runtime::runner::{Encode, EncodeRow, ForwardError};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(50);

/// What a batch was: the first token of each row.
type Batches = Arc<Mutex<Vec<Vec<u32>>>>;

/// Gives each row its first token and its length, once the test lets it.
struct Led {
    batches: Batches,
    /// A batch waits for a word from here, if there is anybody to say it.
    go: Arc<Mutex<mpsc::Receiver<()>>>,
}

const PANICS: u32 = 666;
const FAILS: u32 = 667;

impl Encode for Led {
    fn width(&self) -> usize {
        2
    }

    fn encode(&mut self, rows: &[EncodeRow<'_>], vectors: &mut Vec<f32>) -> Result<(), ForwardError> {
        self.batches.lock().unwrap().push(rows.iter().map(|row| row.tokens[0]).collect());
        let _ = self.go.lock().unwrap().recv();
        if rows.iter().any(|row| row.tokens[0] == FAILS) {
            return Err(ForwardError::Failed("scripted".into()));
        }
        assert!(rows.iter().all(|row| row.tokens[0] != PANICS), "scripted panic");
        vectors.clear();
        vectors.extend(rows.iter().flat_map(|row| [row.tokens[0] as f32, row.tokens.len() as f32]));
        Ok(())
    }
}

struct Rig {
    cell: Arc<EmbeddingCell>,
    batches: Batches,
    /// Lets one batch go; when it is gone, all of them.
    go: Option<mpsc::Sender<()>>,
    system: Arc<ActorSystem>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.go = None;
        self.system.stop();
    }
}

fn rig(max_queue: usize, batch_tokens: usize) -> Rig {
    let system = ActorSystem::start(Box::new(|why| panic!("{why:?}")));
    let (go, led) = mpsc::channel();
    let (batches, led) = (Batches::default(), Arc::new(Mutex::new(led)));
    let seen = batches.clone();
    let spec = EmbeddingSpec {
        model: "led".into(),
        actor: "embedding",
        encode: Arc::new(move || Ok(Box::new(Led { batches: seen.clone(), go: led.clone() }))),
        mailbox: NonZeroUsize::new(64).unwrap(),
        max_queue,
        batch_tokens: NonZeroUsize::new(batch_tokens).unwrap(),
        share: 0.1,
    };
    let cell = Arc::new(EmbeddingCell::start(&system, spec).unwrap());
    Rig { cell, batches, go: Some(go), system }
}

fn in_a_system<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let system = actix::System::new();
    system.block_on(async { tokio::time::timeout(PATIENCE, test()).await.expect("the test comes to an end") });
}

/// Rows that begin with these tokens, of `len` tokens each.
fn rows(firsts: impl IntoIterator<Item = u32>, len: usize) -> Vec<Encoded> {
    let row = |first| Encoded { tokens: vec![first; len], first_segment: len, marks: Vec::new() };
    firsts.into_iter().map(row).collect()
}

impl Rig {
    fn ask(&self, rows: Vec<Encoded>) -> tokio::task::JoinHandle<Result<Vec<f32>, EncodeError>> {
        let cell = self.cell.clone();
        actix_rt::spawn(async move { cell.encode(rows).await })
    }

    /// Waits until the executor has seen so many batches.
    async fn until_batches(&self, count: usize) {
        while self.batches.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn let_go(&self) {
        self.go.as_ref().unwrap().send(()).unwrap();
    }
}

#[test]
fn what_waits_when_a_batch_ends_is_the_next_one_and_everybody_gets_his_own() {
    in_a_system(|| async {
        let rig = rig(64, 1000);
        let first = rig.ask(rows([1], 5));
        rig.until_batches(1).await;
        let others: Vec<_> = (2..6).map(|id| rig.ask(rows([id, id + 100], id as usize))).collect();
        while rig.cell.waiting() < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        rig.let_go();
        rig.until_batches(2).await;
        rig.let_go();

        assert_eq!(first.await.unwrap().unwrap(), [1.0, 5.0]);
        for (id, other) in (2..6).zip(others) {
            let (id, len) = (id as f32, id as f32);
            assert_eq!(other.await.unwrap().unwrap(), [id, len, id + 100.0, len]);
        }
        // The longest stand together at the front.
        let batches = rig.batches.lock().unwrap().clone();
        let mut second = batches[1].clone();
        assert_eq!(second[..2].iter().map(|first| first % 100).collect::<Vec<_>>(), [5, 5]);
        second.sort_unstable();
        assert_eq!(second, [2, 3, 4, 5, 102, 103, 104, 105]);
        assert_eq!(rig.cell.waiting(), 0);
    });
}

#[test]
fn a_batch_has_no_more_tokens_than_it_may_and_one_text_does_not_wait_for_a_long_list() {
    in_a_system(|| async {
        let mut rig = rig(64, 40);
        let blocker = rig.ask(rows([1], 1));
        rig.until_batches(1).await;
        let list = rig.ask(rows(10..20, 10));
        while rig.cell.waiting() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let single = rig.ask(rows([2], 10));
        while rig.cell.waiting() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        rig.go = None;

        assert!(blocker.await.unwrap().is_ok());
        assert_eq!(single.await.unwrap().unwrap(), [2.0, 10.0]);
        let expected: Vec<f32> = (10..20).flat_map(|id| [id as f32, 10.0]).collect();
        assert_eq!(list.await.unwrap().unwrap(), expected);
        let batches = rig.batches.lock().unwrap().clone();
        assert!(batches.iter().all(|batch| batch.len() <= 4), "{batches:?}");
        assert!(batches[1].contains(&2), "{batches:?}");
    });
}

#[test]
fn a_text_longer_than_a_batch_is_a_batch_of_its_own() {
    in_a_system(|| async {
        let mut rig = rig(64, 40);
        rig.go = None;
        assert_eq!(rig.cell.encode(rows([7], 100)).await.unwrap(), [7.0, 100.0]);
        assert_eq!(rig.cell.encode(Vec::new()).await.unwrap(), [0.0; 0]);
    });
}

#[test]
fn a_request_whose_reader_has_left_is_not_computed() {
    in_a_system(|| async {
        let mut rig = rig(64, 10);
        let blocker = rig.ask(rows([1], 10));
        rig.until_batches(1).await;
        let left = rig.ask(rows([2, 3], 10));
        let stays = rig.ask(rows([4], 10));
        while rig.cell.waiting() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        rig.go = None;

        assert!(blocker.await.unwrap().is_ok());
        assert_eq!(stays.await.unwrap().unwrap(), [4.0, 10.0]);
        assert_eq!(*rig.batches.lock().unwrap(), [vec![1], vec![4]]);
        assert_eq!(rig.cell.waiting(), 0);
    });
}

#[test]
fn more_than_may_wait_is_refused_and_told_when_to_come_back() {
    in_a_system(|| async {
        let mut rig = rig(2, 40);
        let first = rig.ask(rows([1], 10));
        rig.until_batches(1).await;
        // More tokens than may wait, beside others.
        let refused = rig.cell.encode(rows(0..20, 10)).await.unwrap_err();
        let EncodeError::QueueFull { waiting: 1, retry_after } = refused else { panic!("{refused}") };
        assert!(retry_after >= Duration::from_secs(1));
        let second = rig.ask(rows([2], 10));
        while rig.cell.waiting() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(rig.cell.encode(rows([3], 1)).await, Err(EncodeError::QueueFull { waiting: 2, .. })));
        rig.go = None;
        assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
        // Alone it may be as large as it likes.
        assert_eq!(rig.cell.encode(rows(0..20, 10)).await.unwrap().len(), 40);
    });
}

#[test]
fn a_batch_that_fails_or_panics_fails_its_own_requests_and_the_model_goes_on() {
    in_a_system(|| async {
        let mut rig = rig(64, 10);
        rig.go = None;
        for (bad, message) in [(FAILS, "scripted"), (PANICS, "the executor panicked")] {
            let (failing, other) = (rig.ask(rows([bad], 10)), rig.ask(rows([5], 10)));
            let error = failing.await.unwrap().unwrap_err();
            assert_eq!(error, EncodeError::Failed(message.to_owned()));
            assert_eq!(other.await.unwrap().unwrap(), [5.0, 10.0]);
        }
        while rig.cell.reading().restarts_total < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_drained_model_answers_what_waits_and_refuses_the_rest() {
    in_a_system(|| async {
        let mut rig = rig(64, 10);
        let waiting: Vec<_> = (1..4).map(|id| rig.ask(rows([id], 10))).collect();
        while rig.cell.waiting() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let cell = rig.cell.clone();
        let drained = actix_rt::spawn(async move { cell.drain().await });
        tokio::task::yield_now().await;
        assert_eq!(rig.cell.encode(rows([9], 1)).await, Err(EncodeError::ShuttingDown));
        rig.go = None;
        for (id, answer) in (1..4).zip(waiting) {
            assert_eq!(answer.await.unwrap().unwrap(), [id as f32, 10.0]);
        }
        drained.await.unwrap();
        assert!(!rig.cell.is_ready());
    });
}
