//! Readers and prompts of different pace do not hold each other up.

use crate::support::*;
use lmx_runtime::config::SchedulerConfig;
use std::time::Duration;

#[test]
fn a_reader_who_falls_behind_is_waited_for_and_nobody_else_is() {
    in_a_system(|| async {
        let rig = Setup { num_blocks: 1024, ..Setup::default() }.start();
        let long = prompt(1, 20);
        let unread = rig.open(request(&long, 1500));
        rig.until(|counts| counts.paused == 1).await;

        let other = prompt(2, 20);
        assert!(read(rig.open(request(&other, 200))).await.is_whole(&other, 200));
        let counts = rig.counts().await;
        assert_eq!((counts.paused, counts.decode), (1, 1), "it keeps its place and its blocks");

        let answer = read(unread).await;
        assert!(answer.is_whole(&long, 1500), "{:?} after {}", answer.error, answer.choices[0].ids.len());
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn a_paused_stream_that_is_dropped_gives_its_blocks_back() {
    in_a_system(|| async {
        let rig = Setup { num_blocks: 1024, ..Setup::default() }.start();
        let unread = rig.open(request(&prompt(1, 20), 1500));
        rig.until(|counts| counts.paused == 1).await;

        drop(unread);

        rig.all_blocks_are_back().await;
    });
}

#[test]
fn the_chunks_of_a_prompt_shrink_while_others_decode() {
    in_a_system(|| async {
        // 0.2 ms per token: a whole chunk would hold the stream up for 100 ms.
        let scheduler = SchedulerConfig { decode_stall_budget_ms: 40, ..Setup::default().scheduler };
        let setup = Setup { scheduler, num_blocks: 2048, token: Duration::from_micros(200), ..Setup::default() };
        let rig = setup.start();
        let chunks = |answer: &Answer| {
            let ends = answer.prefill.iter();
            let begins = [&0].into_iter().chain(ends.clone());
            ends.zip(begins).map(|(end, begin)| end - begin).collect::<Vec<_>>()
        };
        let alone = read(rig.open(request(&prompt(1, 1100), 1))).await;
        assert_eq!(chunks(&alone), [512, 512]);

        let decoding = prompt(2, 10);
        let mut stream = rig.open(request(&decoding, 2000));
        read_until(&mut stream, |answer| answer.cached_tokens.is_some()).await;
        let reader = actix_rt::spawn(read(stream));
        let beside = read(rig.open(request(&prompt(3, 1100), 1))).await;

        let mut sizes = chunks(&beside);
        assert!(sizes.iter().all(|size| size % BLOCK == 0));
        sizes.sort_unstable();
        // 0.6 of 40 ms is 120 tokens, less what a decode costs. Sleeps are never too short, so no chunk is dearer than
        // estimated in the middle of the distribution; a hiccup of the machine moves a few.
        assert!(sizes[sizes.len() / 2] <= 120, "{sizes:?}");
        reader.abort();
    });
}

// A reader on another thread than its egress could catch up between being found behind and being marked so: nobody let
// its sequence go on then.
#[test]
fn a_reader_on_another_thread_is_never_forgotten() {
    in_a_system(|| async {
        let rig = Setup { num_blocks: 8192, context_tokens: 4000, ..Setup::default() }.start();
        let readers: Vec<_> = (1..=6)
            .map(|id| {
                let stream = rig.open(request(&prompt(id, 10), 2500));
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    (id, runtime.block_on(read(stream)))
                })
            })
            .collect();
        while readers.iter().any(|reader| !reader.is_finished()) {
            pause().await;
        }
        for reader in readers {
            let (id, answer) = reader.join().unwrap();
            assert!(answer.is_whole(&prompt(id, 10), 2500), "{id}: {:?}", answer.error);
        }
        assert_eq!(rig.counts().await.paused, 0);
    });
}
