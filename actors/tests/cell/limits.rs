//! Doors that close: mailbox, queue, time limits, drain.

use crate::support::*;
use lmx_actors::cell::{MailboxCapacities, OpenError, StreamRequest};
use lmx_actors::stream::StreamError;
use lmx_runtime::config::SchedulerConfig;
use lmx_runtime::sequence::SequenceError;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

fn one_place() -> SchedulerConfig {
    SchedulerConfig { max_sequences: at_least_one(1), ..SchedulerConfig::default() }
}

#[test]
fn the_queue_takes_as_many_as_it_may() {
    in_a_system(|| async {
        let scheduler = SchedulerConfig { max_queue: 3, ..one_place() };
        let rig = Setup { scheduler, step: Duration::from_millis(1), ..Setup::default() }.start();
        let mut running = rig.open(request(&prompt(0, 10), 900));
        read_until(&mut running, |answer| answer.cached_tokens.is_some()).await;

        let waiting: Vec<_> = (1..=3).map(|id| (id, rig.open(request(&prompt(id, 10), 5)))).collect();
        let refused = rig.try_open(request(&prompt(4, 10), 5)).unwrap_err();

        let OpenError::QueueFull { waiting: 3, limit: 3, retry_after } = refused else { panic!("{refused}") };
        assert!(retry_after >= Duration::from_secs(1));
        drop(running);
        for (id, stream) in waiting {
            assert!(read(stream).await.is_whole(&prompt(id, 10), 5));
        }
        rig.answers(&prompt(4, 10), 5).await;
    });
}

#[test]
fn a_hundred_requests_at_once_are_served_or_refused() {
    in_a_system(|| async {
        let scheduler = SchedulerConfig { max_queue: 8, ..one_place() };
        let mailboxes = MailboxCapacities { scheduler: at_least_one(4), ..MailboxCapacities::default() };
        let step = Duration::from_millis(5);
        let rig = Setup { scheduler, mailboxes, step, ..Setup::default() }.start();
        let barrier = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (cell, egress, barrier) = (rig.cell.clone(), rig.egress.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    let open = |id| (id, cell.open(&egress, request(&prompt(id, 10), 3)));
                    (thread * 25..(thread + 1) * 25).map(open).collect::<Vec<_>>()
                })
            })
            .collect();
        let (mut served, mut queue_full, mut overloaded) = (0, 0, 0);
        for (id, outcome) in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            match outcome {
                Ok(stream) => {
                    assert!(read(stream).await.is_whole(&prompt(id, 10), 3));
                    served += 1;
                }
                Err(OpenError::QueueFull { .. }) => queue_full += 1,
                Err(OpenError::Overloaded { .. }) => overloaded += 1,
                Err(error) => panic!("{error}"),
            }
        }

        // How many depends on when the actor's thread runs: letters of the other actors take places of its mailbox too.
        assert!(served > 0);
        assert_eq!(served + queue_full + overloaded, 100);
        assert!(queue_full + overloaded > 0);
        // Refused ones, and letters of other actors that found the mailbox over its capacity.
        assert!(rig.reading("scheduler").full_total >= overloaded);
        assert_eq!(rig.cell.waiting(), 0);
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn a_drained_cell_finishes_what_runs_and_refuses_the_rest() {
    in_a_system(|| async {
        let rig = Setup { scheduler: one_place(), step: Duration::from_millis(1), ..Setup::default() }.start();
        let first = prompt(1, 10);
        let mut running = rig.open(request(&first, 100));
        let mut answer = read_until(&mut running, |answer| answer.cached_tokens.is_some()).await;
        let waiting = rig.open(request(&prompt(2, 10), 5));
        rig.until(|counts| counts.waiting == 1).await;

        let cell = rig.cell.clone();
        let drained = actix_rt::spawn(async move { cell.drain().await });

        let ended = read(waiting).await;
        assert_eq!(ended.error, Some(StreamError::Sequence(SequenceError::ShuttingDown)));
        assert_eq!(rig.try_open(request(&prompt(3, 10), 5)).unwrap_err(), OpenError::ShuttingDown);
        assert!(!drained.is_finished(), "the first one is still running");
        while let Some(event) = running.next().await {
            answer.take(event);
        }
        assert!(answer.is_whole(&first, 100));
        drained.await.unwrap();
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn an_idle_cell_is_drained_at_once() {
    in_a_system(|| async {
        let rig = Setup::default().start();

        rig.cell.drain().await;

        assert_eq!(rig.try_open(request(&prompt(3, 10), 5)).unwrap_err(), OpenError::ShuttingDown);
    });
}

#[test]
fn a_request_ends_at_its_deadline() {
    in_a_system(|| async {
        let rig = Setup { step: Duration::from_millis(2), ..Setup::default() }.start();
        let deadline = Instant::now() + Duration::from_millis(250);
        let other = prompt(2, 10);
        let beside = rig.open(request(&other, 200));

        let answer = read(rig.open(StreamRequest { deadline: Some(deadline), ..request(&prompt(1, 10), 900) })).await;

        assert_eq!(answer.error, Some(StreamError::Sequence(SequenceError::Deadline)));
        assert!(Instant::now() >= deadline);
        assert!(read(beside).await.is_whole(&other, 200));
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn a_request_does_not_wait_longer_than_the_queue_timeout() {
    in_a_system(|| async {
        let scheduler = SchedulerConfig { queue_timeout_sec: 1, ..one_place() };
        let rig = Setup { scheduler, step: Duration::from_millis(5), ..Setup::default() }.start();
        let mut running = rig.open(request(&prompt(1, 10), 900));
        read_until(&mut running, |answer| answer.cached_tokens.is_some()).await;

        let answer = read(rig.open(request(&prompt(2, 10), 5))).await;

        let Some(StreamError::Sequence(SequenceError::QueueTimeout { waited })) = answer.error else {
            panic!("{answer:?}")
        };
        assert!(waited >= Duration::from_secs(1));
        assert_eq!(rig.cell.waiting(), 0);
    });
}
