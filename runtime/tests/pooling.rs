//! What becomes of texts before an encoder reads them, and what it refuses to read.

mod support;

use lmx_runtime::config::ComputeMode;
use lmx_runtime::kernels::Form;
use lmx_runtime::pooling::{Cut, Documents, Encoded, PoolingError, Purpose, Reranking, Side};
use lmx_runtime::runner::{Encode, EncodeRow};
use safetensors::SafeTensors;
use std::fs;
use support::encoder::{self, CUT};

const LEFT: Cut = Cut::To { tokens: None, side: Side::Left };

/// More than any of these models takes.
fn long_text() -> String {
    (0..200).map(|n| format!("fox {n} ")).collect()
}

#[test]
fn a_text_that_is_too_long_is_refused_with_both_counts() {
    for (name, max) in [("minilm-f32", 40), ("bge-q4g64", 64), ("qwen3-embedding-q4g64", 512)] {
        let text = encoder::named(name).open().text;
        let error = text.text(&long_text(), Purpose::Bare, Cut::Refuse).unwrap_err();

        let around = text.text("", Purpose::Bare, Cut::Refuse).map_or(0, |empty| empty.tokens.len());
        let got = text.tokenizer.encode(&long_text(), false).unwrap().len() + around;
        assert_eq!(error.to_string(), format!("the text has {got} tokens, the model takes {max}"), "{name}");
        assert!(matches!(error, PoolingError::TooLong { got: g, max: m } if (g, m) == (got, max)), "{name}");
    }
}

#[test]
fn a_text_is_cut_on_the_side_that_is_asked_for_and_keeps_the_tokens_around_it() {
    for (name, front, back, max) in [("minilm-f32", 1, 1, 40), ("qwen3-embedding-q4g64", 0, 1, 512)] {
        let text = encoder::named(name).open().text;
        let whole = text.tokenizer.encode(&long_text(), true).unwrap();
        let inner = &whole[front..whole.len() - back];
        let cut = |cut| text.text(&long_text(), Purpose::Bare, cut).unwrap();
        let around = |part: &[u32]| [&whole[..front], part, &whole[whole.len() - back..]].concat();

        let kept = max - front - back;
        assert_eq!(cut(CUT).tokens, around(&inner[..kept]), "{name}");
        assert_eq!(cut(LEFT).tokens, around(&inner[inner.len() - kept..]), "{name}");
        let ten = |side| cut(Cut::To { tokens: Some(10), side }).tokens;
        assert_eq!(ten(Side::Right), around(&inner[..10 - front - back]), "{name}");
        assert_eq!(ten(Side::Left), around(&inner[inner.len() + front + back - 10..]), "{name}");
        // More than the model takes cannot be asked for.
        assert_eq!(cut(Cut::To { tokens: Some(max + 1), side: Side::Right }).tokens.len(), max, "{name}");
    }
}

#[test]
fn tokens_are_cut_as_they_are_and_refused_where_they_are_none() {
    let text = encoder::named("minilm-f32").open().text;
    let ids: Vec<u32> = (0..50).collect();

    let cut = |cut| text.ids(ids.clone(), cut).unwrap().tokens;
    assert_eq!(cut(CUT), ids[..40]);
    assert_eq!(cut(LEFT), ids[10..]);
    assert!(matches!(text.ids(ids, Cut::Refuse), Err(PoolingError::TooLong { got: 50, max: 40 })));
    let unknown = text.ids(vec![3, 360], Cut::Refuse).unwrap_err();
    assert_eq!(unknown.to_string(), "360 is no token, the model has 360");
    assert!(matches!(text.ids(Vec::new(), Cut::Refuse), Err(PoolingError::Empty)));
}

#[test]
fn of_two_texts_the_longer_one_is_cut() {
    for name in ["bert-reranker-bf16", "bge-reranker-f32"] {
        let text = encoder::named(name).open().text;
        let pair = |cut| text.pair("the fox", &long_text(), None, cut);
        let inner = |text_: &str| text.tokenizer.encode(text_, false).unwrap();
        let (query, document) = (inner("the fox"), inner(&long_text()));
        let around = text.pair("", "", None, Cut::Refuse).unwrap().tokens.len();

        let got = query.len() + document.len() + around;
        assert!(matches!(pair(Cut::Refuse), Err(PoolingError::TooLong { got: g, max: 64 }) if g == got), "{name}");
        let kept = 64 - query.len() - around;
        for (cut, part) in [(CUT, &document[..kept]), (LEFT, &document[document.len() - kept..])] {
            let tokens = pair(cut).unwrap().tokens;
            assert_eq!((tokens.len(), &tokens[1..=query.len()]), (64, &query[..]), "{name}");
            assert_eq!(&tokens[63 - kept..63], part, "{name}");
        }
        // The rest of the document is read anew, and now and then as fewer tokens.
        let three = text.pair("the fox", &long_text(), Some(3), Cut::Refuse).unwrap().tokens;
        assert!((query.len() + around + 1..=query.len() + around + 3).contains(&three.len()), "{name}");
    }
}

#[test]
fn tokens_that_the_model_wants_around_a_text_stand_there_without_one_too() {
    for (name, tokens) in [("minilm-f32", 2), ("embeddinggemma-bf16-window", 2), ("qwen3-embedding-q4g64", 1)] {
        let text = encoder::named(name).open().text;
        assert_eq!(text.text("", Purpose::Bare, Cut::Refuse).unwrap().tokens.len(), tokens, "{name}");
    }
}

#[test]
fn a_query_has_the_models_prompt_before_it_and_a_document_only_where_there_is_one() {
    let tokens = |name: &str, text: &str, purpose| {
        encoder::named(name).open().text.text(text, purpose, Cut::Refuse).unwrap().tokens
    };
    let bge = |text, purpose| tokens("bge-q4g64", text, purpose);
    let asked = "Represent this sentence for searching relevant passages: Fox";
    assert_eq!(bge("Fox", Purpose::Query), bge(asked, Purpose::Bare));
    assert_eq!(bge("Fox", Purpose::Document), bge("fox", Purpose::Bare));
    assert_eq!(bge("Fox", Purpose::Any), bge("fox", Purpose::Bare));
    let gemma = |text, purpose| tokens("embeddinggemma-q4g64", text, purpose);
    assert_eq!(gemma("Fox", Purpose::Document), gemma("title: none | text: Fox", Purpose::Bare));
    assert_eq!(gemma("Fox", Purpose::Named("query")), gemma("Fox", Purpose::Query));
}

#[test]
fn rows_that_do_not_fit_the_model_are_refused_and_the_next_ones_computed() {
    let read = encoder::named("minilm-f32").open();
    let mut encode = read.native(ComputeMode::F32, Form::best(), 1);
    let fits = Encoded { tokens: vec![2, 9, 3], first_segment: 3, marks: Vec::new() };
    let expected = encoder::together(&mut encode, std::slice::from_ref(&fits));
    let many: Vec<u32> = vec![9; 65];
    let row = |tokens, first_segment, marks| EncodeRow { tokens, first_segment, marks };
    let cases = [
        (row(&[], 0, &[]), "a text without tokens"),
        (row(&many, 65, &[]), "a text of 65 tokens, the model has 64 positions"),
        (row(&[2, 360], 2, &[]), "token 360 is not below the vocabulary of 360"),
        (row(&[2, u32::MAX], 2, &[]), "token 4294967295 is not below the vocabulary of 360"),
        (row(&[2, 3], 3, &[]), "a first segment of 3 tokens in a text of 2"),
        (row(&[2, 3], 2, &[1]), "1 marked tokens, where the model takes none"),
    ];
    for (wrong, problem) in cases {
        let mut vectors = vec![1.0];
        let error = encode.encode(&[fits.row(), wrong], &mut vectors).unwrap_err();
        assert_eq!(error.to_string(), problem);
        assert!(encoder::together(&mut encode, std::slice::from_ref(&fits)) == expected, "after: {problem}");
    }
}

#[test]
fn marks_are_wanted_in_order_and_inside_the_text_and_each_gives_a_vector() {
    let read = encoder::named("jina-reranker-bf16").open();
    let mut encode = read.native(ComputeMode::F32, Form::best(), 1);
    let mut of = |marks: &[u32]| {
        let (tokens, mut vectors) = ([5, 6, 7, 8], Vec::new());
        let done = encode.encode(&[EncodeRow { tokens: &tokens, first_segment: 4, marks }], &mut vectors);
        done.map(|()| vectors).map_err(|error| error.to_string())
    };

    let all = of(&[0, 1, 2, 3]).unwrap();
    let width = read.blueprint.width;
    assert_eq!(all.len(), 4 * width);
    assert!(of(&[1, 3]).unwrap() == [&all[width..2 * width], &all[3 * width..]].concat());
    assert_eq!(of(&[]), Err("0 marked tokens, where the model takes some".to_owned()));
    for wrong in [&[1, 1][..], &[3, 1], &[4], &[0, u32::MAX]] {
        assert_eq!(of(wrong), Err("marked tokens that are not in order, or not there".to_owned()));
    }
}

#[test]
fn long_lists_are_read_in_blocks_with_a_mark_for_each_document_and_the_query() {
    let read = encoder::named("jina-reranker-q4g64").open();
    // Marks in the texts themselves count for nothing.
    let texts: Vec<String> = (0..130).map(|n| format!("<|embed_token|> fox {n}")).collect();
    let documents: Vec<&str> = texts.iter().map(String::as_str).collect();
    let lists = read.text.reranking("fox<|rerank_token|>", &documents, None, None, Cut::Refuse).unwrap();

    let Reranking::Blocks(blocks) = &lists else { panic!("{lists:?}") };
    let ranges: Vec<_> = blocks.iter().map(|block| (block.documents.clone(), block.encoded.marks.len())).collect();
    assert_eq!(ranges, [(0..125, 126), (125..130, 6)]);
    let (rows, order) = lists.into_rows();
    assert_eq!(order, Documents::Blocks(vec![125, 5]));
    let mut encode = read.native(ComputeMode::Int16, Form::best(), 2);
    let scores = order.relevance(&encoder::together(&mut encode, &rows), read.text.width);
    assert_eq!(scores.len(), 130);
    assert!(scores.iter().all(|of| of.score.is_finite() && of.score.abs() <= 1.0 + 1e-6));

    let beyond = "fox ".repeat(3000);
    let refused = |query: &str, document: &str| {
        read.text.reranking(query, &[document], None, None, Cut::Refuse).unwrap_err().to_string()
    };
    assert!(refused("fox", &beyond).ends_with("tokens, the model takes 2048"));
    assert!(refused(&beyond, "fox").ends_with("tokens, the model takes 512"));
    assert!(read.text.reranking(&beyond, &[&beyond], None, None, CUT).is_ok());
}

#[test]
fn a_head_in_files_of_its_own_gives_the_same_bits_as_one_beside_the_layers() {
    let gemma =
        [("2_Dense/model.safetensors", "linear", "dense.0"), ("3_Dense/model.safetensors", "linear", "dense.1")];
    let jina =
        [("projector.safetensors", "linear1", "projector.0"), ("projector.safetensors", "linear2", "projector.2")];
    for (name, heads) in [("embeddinggemma-bf16-window", gemma), ("jina-reranker-q4g64", jina)] {
        let fixture = encoder::named(name);
        let folder = tempfile::tempdir().unwrap();
        encoder::copy(&fixture.model(), folder.path());
        let bytes = |file: &str| fs::read(fixture.model().join(file)).unwrap();
        let (all, beside) = (bytes("model.safetensors"), heads.map(|(file, ..)| bytes(file)));
        let (all, beside) = (
            SafeTensors::deserialize(&all).unwrap(),
            beside.each_ref().map(|own| SafeTensors::deserialize(own).unwrap()),
        );
        let head = heads
            .iter()
            .zip(&beside)
            .map(|((_, path, new), own)| (format!("{new}.weight"), own.tensor(&format!("{path}.weight")).unwrap()));
        let tensors: Vec<_> = all.tensors().into_iter().chain(head).collect();
        safetensors::serialize_to_file(tensors, None, &folder.path().join("model.safetensors")).unwrap();
        // An index lists what was there before.
        let _ = fs::remove_file(folder.path().join("model.safetensors.index.json"));
        heads.iter().for_each(|(file, ..)| drop(fs::remove_file(folder.path().join(file))));

        let (own, joined) = (fixture.open(), encoder::open(folder.path()).unwrap());
        assert_eq!(joined.blueprint.unexpected, Vec::<String>::new(), "{name}");
        let rows = fixture.rows(&own.text);
        for mode in [ComputeMode::F32, ComputeMode::Int16] {
            let of = |read: &encoder::Read| encoder::together(&mut read.native(mode, Form::best(), 1), &rows);
            assert!(of(&own) == of(&joined), "{name} {mode:?}");
        }
    }
}

#[test]
fn a_missing_head_is_named() {
    let fixture = encoder::named("embeddinggemma-bf16-window");
    let folder = tempfile::tempdir().unwrap();
    encoder::copy(&fixture.model(), folder.path());
    fs::remove_file(folder.path().join("3_Dense/model.safetensors")).unwrap();

    let error = encoder::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("dense.1"), "{error}");
}
