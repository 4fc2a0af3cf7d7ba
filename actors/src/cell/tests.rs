//! What only the inside of a cell can bring about: deciding actors that panic, a control thread that stands still.

use super::*;
use crate::mailbox::{Letter, Mail};
use crate::stream::StreamError;
use crate::supervise::Fatal;
use crate::support::*;
use actix::{Context, Handler};
use lmx_runtime::sequence::SequenceError;
use std::sync::mpsc as std_mpsc;

/// A letter that its reader does not survive.
#[derive(Debug)]
struct Poison;

impl Letter for Poison {
    const NAME: &'static str = "poison";
}

impl Handler<Mail<Poison>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<Poison>, _: &mut Context<Self>) {
        let (Poison, _busy) = mail.open();
        panic!("poisoned");
    }
}

impl Handler<Mail<Poison>> for KvCache {
    type Result = ();

    fn handle(&mut self, mail: Mail<Poison>, _: &mut Context<Self>) {
        let (Poison, _busy) = mail.open();
        panic!("poisoned");
    }
}

impl Handler<Mail<Poison>> for Egress {
    type Result = ();

    fn handle(&mut self, mail: Mail<Poison>, _: &mut Context<Self>) {
        let (Poison, _busy) = mail.open();
        panic!("poisoned");
    }
}

fn paced() -> Setup {
    Setup { step: Duration::from_millis(1), ..Setup::default() }
}

async fn until_restarted(rig: &Rig, actor: &str) {
    while rig.reading(actor).restarts_total == 0 {
        pause().await;
    }
}

/// Asks until the model is ready again.
async fn next_request_succeeds(rig: &Rig) {
    let prompt = prompt(5, 30);
    loop {
        match rig.try_open(request(&prompt, 12)) {
            Ok(stream) => {
                let answer = read(stream).await;
                assert!(answer.is_whole(&prompt, 12), "{answer:?}");
                return;
            }
            Err(error) => assert_eq!(error, OpenError::NotReady),
        }
        pause().await;
    }
}

#[test]
fn a_scheduler_that_panics_fails_its_streams_and_is_built_anew() {
    in_a_system(|| async {
        let rig = paced().start();
        let mut streams: Vec<_> = (1..=3).map(|id| rig.open(request(&prompt(id, 20), 400))).collect();
        for stream in &mut streams {
            read_until(stream, |answer| answer.cached_tokens.is_some()).await;
        }

        rig.cell.scheduler.tell(Poison);

        for stream in streams {
            let answer = read(stream).await;
            assert_eq!(answer.error, Some(StreamError::Sequence(SequenceError::SchedulerFault)));
        }
        until_restarted(&rig, "scheduler").await;
        next_request_succeeds(&rig).await;
        assert_eq!(rig.cell.waiting(), 0);
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn block_accounts_that_panic_are_built_anew_and_no_token_is_lost() {
    in_a_system(|| async {
        let rig = paced().start();
        let prompts: Vec<_> = (1..=3).map(|id| prompt(id, 20)).collect();
        let streams: Vec<_> = prompts.iter().map(|prompt| rig.open(request(prompt, 150))).collect();
        rig.until(|counts| counts.decode == 3).await;

        rig.cell.kv_cache.tell(Poison);

        for (prompt, stream) in prompts.iter().zip(streams) {
            let answer = read(stream).await;
            assert!(answer.is_whole(prompt, 150), "{answer:?}");
        }
        assert_eq!(rig.reading("kv_cache").restarts_total, 1);
        next_request_succeeds(&rig).await;
        rig.all_blocks_are_back().await;
    });
}

// The news of the loss used to arrive before the new accounts did: what was asked in between was never answered.
#[test]
fn block_accounts_may_panic_while_they_are_asked() {
    in_a_system(|| async {
        for _ in 0..4 {
            let rig = paced().start();
            let prompts: Vec<_> = (1..=8).map(|id| prompt(id, 20)).collect();
            let streams: Vec<_> = prompts.iter().map(|prompt| rig.open(request(prompt, 300))).collect();
            rig.until(|counts| counts.decode > 0).await;

            rig.cell.kv_cache.tell(Poison);

            for (prompt, stream) in prompts.iter().zip(streams) {
                assert!(read(stream).await.is_whole(prompt, 300));
            }
            rig.all_blocks_are_back().await;
        }
    });
}

#[test]
fn an_engine_and_accounts_that_fail_together_agree_on_the_memory_to_come() {
    in_a_system(|| async {
        for _ in 0..4 {
            let rig = paced().start();
            let streams: Vec<_> = (1..=4).map(|id| rig.open(request(&prompt(id, 20), 300))).collect();
            rig.until(|counts| counts.decode > 0).await;

            rig.faults.push([Some(lmx_runtime::runner::Fault::Panic)]);
            rig.cell.kv_cache.tell(Poison);

            for stream in streams {
                read(stream).await; // some fail with the engine's step, none hangs
            }
            next_request_succeeds(&rig).await;
            rig.all_blocks_are_back().await;
        }
    });
}

#[test]
fn a_scheduler_and_accounts_that_fail_together_agree_on_the_memory_to_come() {
    in_a_system(|| async {
        for round in 0..4 {
            let rig = paced().start();
            let streams: Vec<_> = (1..=4).map(|id| rig.open(request(&prompt(id, 20), 300))).collect();
            rig.until(|counts| counts.decode > 0).await;

            if round % 2 == 0 {
                rig.cell.kv_cache.tell(Poison);
                rig.cell.scheduler.tell(Poison);
            } else {
                rig.cell.scheduler.tell(Poison);
                rig.cell.kv_cache.tell(Poison);
            }

            for stream in streams {
                read(stream).await;
            }
            next_request_succeeds(&rig).await;
            rig.all_blocks_are_back().await;
        }
    });
}

#[test]
fn an_egress_that_panics_ends_its_streams_and_frees_their_blocks() {
    in_a_system(|| async {
        let rig = paced().start();
        let mut stream = rig.open(request(&prompt(1, 20), 900));
        let mut answer = read_until(&mut stream, |answer| answer.cached_tokens.is_some()).await;

        rig.egress.mailbox.tell(Poison);

        while let Some(event) = stream.next().await {
            answer.take(event);
        }
        assert_eq!(answer.error, Some(StreamError::Egress));
        rig.all_blocks_are_back().await;
        loop {
            match rig.try_open(request(&prompt(2, 20), 5)) {
                Ok(stream) => break assert!(read(stream).await.is_whole(&prompt(2, 20), 5)),
                Err(error) => assert_eq!(error, OpenError::NotReady),
            }
            pause().await;
        }
        assert_eq!(rig.reading("egress").restarts_total, 1);
    });
}

#[test]
fn a_scheduler_that_fails_too_often_ends_the_process() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        for restarts in 1..=4 {
            rig.cell.scheduler.tell(Poison);
            while rig.reading("scheduler").restarts_total < restarts {
                pause().await;
            }
            if restarts < 4 {
                next_request_succeeds(&rig).await;
            }
        }
        assert_eq!(rig.fatals.try_recv(), Ok(Fatal::RestartBudget("scheduler")));
        assert_eq!(rig.try_open(request(&prompt(1, 5), 5)).unwrap_err(), OpenError::NotReady);
    });
}

#[test]
fn a_full_mailbox_refuses_what_comes_from_outside() {
    in_a_system(|| async {
        let four = NonZeroUsize::new(4).unwrap();
        let mailboxes = MailboxCapacities { scheduler: four, ..MailboxCapacities::default() };
        let rig = Setup { mailboxes, ..Setup::default() }.start();
        rig.answers(&prompt(1, 10), 3).await; // the engine has reported for work
        rig.all_blocks_are_back().await;
        // Nobody empties the mailbox while a hundred requests come.
        let (stand_still, standing) = std_mpsc::channel::<()>();
        let (go_on, wait) = std_mpsc::channel::<()>();
        rig.actors.0.control.spawn_fn(move || {
            stand_still.send(()).unwrap();
            wait.recv().unwrap();
        });
        standing.recv().unwrap();

        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (cell, egress) = (rig.cell.clone(), rig.egress.clone());
                std::thread::spawn(move || {
                    let open = |id| (id, cell.open(&egress, request(&prompt(id, 10), 3)));
                    (thread * 25..(thread + 1) * 25).map(open).collect::<Vec<_>>()
                })
            })
            .collect();
        let outcomes: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let depth = rig.reading("scheduler").depth;
        go_on.send(()).unwrap();

        let mut taken = 0;
        for (id, outcome) in outcomes {
            match outcome {
                Ok(stream) => {
                    assert!(read(stream).await.is_whole(&prompt(id, 10), 3));
                    taken += 1;
                }
                Err(error) => assert!(matches!(error, OpenError::Overloaded { .. }), "{error}"),
            }
        }
        assert_eq!(taken, 4);
        // A refused stream has nothing to cancel.
        assert_eq!(depth, 4);
        assert!(rig.reading("scheduler").full_total >= 96);
        assert_eq!(rig.cell.waiting(), 0);
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn a_cell_that_goes_away_ends_its_streams_and_its_actors() {
    in_a_system(|| async {
        let rig = paced().start();
        let scheduler = rig.cell.scheduler.address().unwrap();
        let kv_cache = rig.cell.kv_cache.address().unwrap();
        let stream = rig.open(request(&prompt(1, 20), 900));
        rig.until(|counts| counts.decode == 1).await;

        let Rig { cell, actors: _running, .. } = rig;
        drop(cell);

        let answer = read(stream).await;
        assert_eq!(answer.error, Some(StreamError::Sequence(SequenceError::ShuttingDown)));
        while scheduler.upgrade().is_some_and(|address| address.connected()) || kv_cache.upgrade().is_some() {
            pause().await;
        }
    });
}
