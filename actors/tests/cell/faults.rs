//! Engines that fail: who notices, and that everybody else does not.

use crate::support::*;
use lmx_actors::stream::StreamError;
use lmx_actors::supervise::Fatal;
use lmx_runtime::config::SchedulerConfig;
use lmx_runtime::runner::Fault;
use lmx_runtime::sequence::SequenceError;
use std::time::Duration;

fn is_engine_fault(answer: &Answer) -> bool {
    matches!(answer.error, Some(StreamError::Sequence(SequenceError::EngineFault { .. })))
}

/// Of four streams, two in the engine and two that wait, a step with `fault` fails those that are in it and no others.
/// Afterwards requests are answered and no block is lost.
async fn only_the_running_fail(rig: &Rig, fault: Fault) {
    let prompts: Vec<_> = (1..=4).map(|id| prompt(id, 20)).collect();
    let streams: Vec<_> = prompts.iter().map(|prompt| rig.open(request(prompt, 40))).collect();
    rig.until(|counts| counts.decode == 2 && counts.waiting == 2).await;

    rig.faults.push([Some(fault)]);

    let mut answers = Vec::new();
    for stream in streams {
        answers.push(read(stream).await);
    }
    assert!(answers[..2].iter().all(is_engine_fault), "{answers:?}");
    assert!(answers[2].is_whole(&prompts[2], 40) && answers[3].is_whole(&prompts[3], 40));
    rig.answers(&prompts[0], 12).await;
    rig.all_blocks_are_back().await;
}

fn two_places() -> Setup {
    let scheduler = SchedulerConfig { max_sequences: at_least_one(2), ..SchedulerConfig::default() };
    Setup { scheduler, step: Duration::from_millis(2), ..Setup::default() }
}

#[test]
fn a_panic_in_a_step_fails_its_sequences_and_no_others() {
    in_a_system(|| async {
        let rig = two_places().start();
        only_the_running_fail(&rig, Fault::Panic).await;
        assert_eq!(rig.reading("engine").restarts_total, 1);
    });
}

#[test]
fn an_error_in_a_step_fails_its_sequences_and_the_engine_goes_on() {
    in_a_system(|| async {
        let rig = two_places().start();
        only_the_running_fail(&rig, Fault::Error).await;
        assert_eq!(rig.reading("engine").restarts_total, 0);
    });
}

#[test]
fn a_paused_sequence_outlives_the_engine() {
    in_a_system(|| async {
        let rig = Setup { num_blocks: 1024, ..Setup::default() }.start();
        let slow = prompt(1, 20);
        let held_back = rig.open(request(&slow, 700));
        rig.until(|counts| counts.paused == 1).await;
        // A step of the paused sequence may still be under way, and would take the fault: it lies before this answer's.
        rig.answers(&prompt(3, 7), 2).await;
        rig.faults.push([Some(Fault::Panic)]);
        let broken = read(rig.open(request(&prompt(2, 9), 5))).await;
        assert!(is_engine_fault(&broken));

        // Its blocks are gone; it queues again, and the same tokens follow.
        let answer = read(held_back).await;

        assert!(answer.is_whole(&slow, 700), "{:?} after {}", answer.error, answer.choices[0].ids.len());
    });
}

#[test]
fn a_step_without_memory_is_computed_in_halves() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        rig.faults.push([Some(Fault::OutOfMemory)]);

        rig.answers(&prompt(1, 40), 12).await;
    });
}

#[test]
fn logits_that_are_not_finite_fail_their_sequence() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        rig.faults.push([Some(Fault::NotFinite)]);

        let answer = read(rig.open(request(&prompt(1, 10), 12))).await;

        assert!(is_engine_fault(&answer));
        rig.answers(&prompt(1, 10), 12).await;
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn an_engine_that_fails_too_often_ends_the_process() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        for restarts in 1..=4 {
            rig.faults.push([Some(Fault::Panic)]);
            assert!(is_engine_fault(&read(rig.open(request(&prompt(1, 10), 5))).await));
            while rig.reading("engine").restarts_total < restarts {
                pause().await;
            }
            assert_eq!(rig.fatals.try_recv().ok(), (restarts == 4).then_some(Fatal::RestartBudget("engine")));
        }
    });
}

#[test]
fn an_executor_that_cannot_be_built_again_is_tried_again() {
    in_a_system(|| async {
        let rig = Setup { broken_build: Some(1), ..Setup::default() }.start();
        rig.answers(&prompt(1, 10), 5).await;
        rig.faults.push([Some(Fault::Panic)]);
        assert!(is_engine_fault(&read(rig.open(request(&prompt(1, 10), 5))).await));

        // The fault and the attempt that panicked; the request waits for the next attempt.
        rig.answers(&prompt(1, 10), 5).await;

        assert_eq!(rig.reading("engine").restarts_total, 2);
    });
}
