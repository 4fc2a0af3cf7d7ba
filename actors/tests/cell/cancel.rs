//! Streams that are dropped: what they held comes back, whatever they were doing.

use crate::support::*;
use lmx_runtime::config::SchedulerConfig;
use lmx_runtime::runner::Fault;
use std::time::Duration;

#[test]
fn a_dropped_stream_leaves_the_queue() {
    in_a_system(|| async {
        let scheduler = SchedulerConfig { max_sequences: at_least_one(1), ..SchedulerConfig::default() };
        let rig = Setup { scheduler, step: Duration::from_millis(1), ..Setup::default() }.start();
        let first = prompt(1, 10);
        let mut running = rig.open(request(&first, 100));
        let begun = read_until(&mut running, |answer| answer.cached_tokens.is_some()).await;
        let waiting = rig.open(request(&prompt(2, 10), 100));
        rig.until(|counts| counts.waiting == 1).await;
        assert_eq!(rig.cell.waiting(), 1);

        drop(waiting);

        rig.until(|counts| counts.waiting == 0).await;
        assert_eq!(rig.cell.waiting(), 0);
        let mut answer = begun;
        while let Some(event) = running.next().await {
            answer.take(event);
        }
        assert!(answer.is_whole(&first, 100));
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn a_stream_dropped_in_prefill_gives_its_blocks_back() {
    in_a_system(|| async {
        let scheduler = SchedulerConfig { prefill_chunk: at_least_one(16), ..Setup::default().scheduler };
        let rig = Setup { scheduler, step: Duration::from_millis(2), ..Setup::default() }.start();
        let long = prompt(1, 900);
        let mut stream = rig.open(request(&long, 5));
        let answer = read_until(&mut stream, |answer| answer.prefill.len() == 2).await;
        assert_eq!(answer.prefill, [16, 32]);
        assert!(rig.usage().await.blocks.held >= 225, "a prompt holds all its blocks from the start");

        drop(stream);

        rig.all_blocks_are_back().await;
        assert!(rig.usage().await.blocks.cached >= 8, "what was computed can be used again");
        let again = read(rig.open(request(&long, 5))).await;
        assert!(again.is_whole(&long, 5));
        assert!(again.cached_tokens.unwrap() >= 32);
    });
}

#[test]
fn a_stream_dropped_in_decode_gives_its_blocks_back() {
    in_a_system(|| async {
        let rig = Setup { step: Duration::from_millis(1), ..Setup::default() }.start();
        let other = prompt(2, 11);
        let beside = rig.open(request(&other, 60));
        let mut stream = rig.open(request(&prompt(1, 10), 800));
        read_until(&mut stream, |answer| answer.choices.first().is_some_and(|choice| choice.ids.len() > 9)).await;

        drop(stream);

        assert!(read(beside).await.is_whole(&other, 60), "the stream beside it does not notice");
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn a_stream_dropped_during_a_long_step_leaves_with_the_next_plan() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        rig.faults.push([Some(Fault::Delay(Duration::from_millis(300)))]);
        let stream = rig.open(request(&prompt(1, 10), 50));
        rig.until(|counts| counts.prefill == 1).await;

        drop(stream);

        // At once, not when the step is over: the next request need not wait for the accounting.
        rig.until(|counts| counts.prefill + counts.decode == 0).await;
        rig.answers(&prompt(1, 10), 6).await;
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn cancelling_by_id_ends_the_stream() {
    in_a_system(|| async {
        let rig = Setup { step: Duration::from_millis(1), ..Setup::default() }.start();
        let mut stream = rig.open(request(&prompt(1, 10), 900));
        let mut answer = read_until(&mut stream, |answer| answer.cached_tokens.is_some()).await;

        rig.cell.cancel(stream.request());

        while let Some(event) = stream.next().await {
            answer.take(event);
        }
        assert_eq!(answer.error, Some(lmx_actors::stream::StreamError::Cancelled));
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn ten_thousand_requests_that_come_and_go_leave_nothing_behind() {
    const READERS: u64 = 32;
    const REQUESTS: u64 = 10_000;
    in_a_system(|| async {
        // Room for two or three sequences of average size: admissions wait, decodes preempt each other.
        let scheduler = SchedulerConfig {
            max_sequences: at_least_one(8),
            max_batched_tokens: at_least_one(64),
            prefill_chunk: at_least_one(16),
            ..SchedulerConfig::default()
        };
        let rig = std::rc::Rc::new(Setup { scheduler, num_blocks: 32, ..Setup::default() }.start());
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let rig = rig.clone();
                actix_rt::spawn(async move {
                    for n in (reader..REQUESTS).step_by(READERS as usize) {
                        come_and_go(&rig, n).await;
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }

        rig.all_blocks_are_back().await;
        assert_eq!(rig.cell.waiting(), 0);
        let counts = rig.counts().await;
        assert!(counts.preemptions > 0, "the pool was small enough to matter");
        rig.answers(&prompt(9, 30), 10).await;
        assert!(rig.cell.readings().iter().all(|reading| reading.restarts_total == 0));
    });
}

/// Opens a request, reads some of its events and drops it, or reads all and checks them.
async fn come_and_go(rig: &Rig, n: u64) {
    let dice = scatter(n);
    let prompt = prompt((dice % 50) as u32, 1 + (dice >> 8) as usize % 45);
    let tokens = 1 + (dice >> 16) as usize % 16;
    let choices = if (dice >> 24).is_multiple_of(8) { 3 } else { 1 };
    let mut stream = rig.open(lmx_actors::cell::StreamRequest { choices, ..request(&prompt, tokens) });
    if (dice >> 32).is_multiple_of(2) {
        let answer = read(stream).await;
        assert_eq!(answer.error, None, "request {n}");
        assert_eq!(answer.choices.len(), choices, "request {n}");
        for choice in answer.choices {
            assert_eq!(choice.ids, expected(&prompt, tokens), "request {n}");
        }
        return;
    }
    for _ in 0..(dice >> 40) % 6 {
        if stream.next().await.is_none() {
            return;
        }
    }
}
