//! Tokens, text and ends of streams that nobody disturbs.

use crate::support::*;
use lmx_actors::egress::TextOptions;
use lmx_actors::stream::StopReason;
use lmx_runtime::sampling::SamplingParams;

#[test]
fn a_stream_yields_what_the_model_says() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        let prompt = prompt(1, 37);

        let answer = read(rig.open(request(&prompt, 25))).await;

        assert!(answer.is_whole(&prompt, 25), "{answer:?}");
        assert_eq!(answer.cached_tokens, Some(0));
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn a_repeated_prompt_is_found_in_the_prefix_index() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        let prompt = prompt(1, 37);
        rig.answers(&prompt, 5).await;

        let answer = read(rig.open(request(&prompt, 5))).await;

        assert!(answer.is_whole(&prompt, 5), "{answer:?}");
        assert_eq!(answer.cached_tokens, Some(36));
    });
}

#[test]
fn concurrent_streams_of_mixed_lengths_equal_those_alone() {
    in_a_system(|| async {
        // Fewer places than streams, and fewer blocks than they need together.
        let rig = Setup { num_blocks: 120, ..Setup::default() }.start();
        let sizes = |id: u32| (prompt(id, 1 + (id as usize * 37) % 150), 1 + (id as usize * 13) % 60);

        let readers: Vec<_> = (0..32)
            .map(|id| {
                let (prompt, tokens) = sizes(id);
                actix_rt::spawn(read(rig.open(request(&prompt, tokens))))
            })
            .collect();

        for (id, reader) in (0..).zip(readers) {
            let (prompt, tokens) = sizes(id);
            let answer = reader.await.unwrap();
            assert!(answer.is_whole(&prompt, tokens), "{id}: {answer:?}");
        }
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn choices_share_a_prompt_and_differ_by_their_draws() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        let prompt = prompt(2, 30);
        let flat = SamplingParams { temperature: 2.0, logprobs: Some(0), ..SamplingParams::default() };
        let of = |choices| {
            let params = flat.clone();
            read(rig.open(lmx_actors::cell::StreamRequest { choices, params, ..request(&prompt, 20) }))
        };

        let three = of(3).await;
        let one = of(1).await;

        assert_eq!(three.error, None);
        assert_eq!(three.choices.len(), 3);
        assert_eq!(three.choices[0], one.choices[0], "a choice does not depend on the others");
        assert_ne!(three.choices[0].ids, three.choices[1].ids);
        assert_ne!(three.choices[1].ids, three.choices[2].ids);
        for choice in &three.choices {
            assert_eq!((choice.ids.len(), choice.reason.clone()), (20, Some(StopReason::Length)));
            assert_eq!(choice.text, text(&choice.ids));
        }
        rig.all_blocks_are_back().await;
    });
}

#[test]
fn greedy_choices_are_alike() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        let prompt = prompt(2, 30);
        let four = lmx_actors::cell::StreamRequest { choices: 4, ..request(&prompt, 9) };

        let answer = read(rig.open(four)).await;

        assert_eq!(answer.choices.len(), 4);
        assert!(answer.choices.iter().all(|choice| choice.ids == expected(&prompt, 9)));
    });
}

#[test]
fn a_stop_string_ends_the_choice_and_is_not_delivered() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        let prompt = prompt(3, 12);
        let whole = text(&expected(&prompt, 400));
        // A string over a border between tokens, each of which is one character.
        let begin = whole.char_indices().nth(40).unwrap().0;
        let end = whole.char_indices().nth(43).unwrap().0;
        let stop = whole[begin..end].to_owned();
        let before = whole.split(&stop).next().unwrap();
        let ends_at_stop = lmx_actors::cell::StreamRequest {
            text: TextOptions { stop: vec!["\u{1F600}".into(), stop.clone()], ..TextOptions::default() },
            ..request(&prompt, 400)
        };

        let answer = read(rig.open(ends_at_stop)).await;

        assert_eq!(answer.error, None);
        assert_eq!(answer.choices[0].text, before);
        assert_eq!(answer.choices[0].reason, Some(StopReason::Text(stop)));
        assert!(answer.choices[0].completion_tokens < 50);
        rig.all_blocks_are_back().await; // long before 400 tokens were computed: the engine was told
        let steps = rig.counts().await;
        assert_eq!(steps.decode, 0);
    });
}

#[test]
fn a_stop_token_ends_the_choice_and_has_no_text() {
    in_a_system(|| async {
        let rig = Setup::default().start();
        let prompt = prompt(4, 9);
        let ids = expected(&prompt, 60);
        let stop = ids[20];
        let first = ids.iter().position(|&id| id == stop).unwrap();
        let params = SamplingParams { stop_ids: vec![stop], ..request(&prompt, 60).params };

        let answer = read(rig.open(lmx_actors::cell::StreamRequest { params, ..request(&prompt, 60) })).await;

        assert_eq!(answer.choices[0].ids, ids[..first]);
        assert_eq!(answer.choices[0].text, text(&ids[..first]));
        assert_eq!(answer.choices[0].reason, Some(StopReason::Token));
        assert_eq!(answer.choices[0].completion_tokens, first + 1, "a stop token was computed, so it counts");
    });
}

#[test]
fn a_choice_ends_where_the_context_ends() {
    in_a_system(|| async {
        let rig = Setup { context_tokens: 40, ..Setup::default() }.start();
        let prompt = prompt(5, 30);

        let answer = read(rig.open(request(&prompt, 1000))).await;

        assert!(answer.is_whole(&prompt, 10), "{answer:?}");
    });
}
