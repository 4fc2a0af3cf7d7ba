use super::rank::Documents;
use super::{Dimensions, PoolingError};

#[test]
fn lengths_that_a_model_was_not_trained_for_are_refused_with_those_that_it_was() {
    let refused = |of: Dimensions, asked| of.check(Some(asked), 768).unwrap_err().to_string();

    assert_eq!(Dimensions::Whole.check(None, 768).unwrap(), 768);
    assert_eq!(Dimensions::Whole.check(Some(768), 768).unwrap(), 768);
    assert_eq!(refused(Dimensions::Whole, 512), "512 dimensions are asked for, the model has 768 only");
    let listed = || Dimensions::Listed(vec![128, 256]);
    assert_eq!(listed().check(Some(128), 768).unwrap(), 128);
    assert_eq!(refused(listed(), 200), "200 dimensions are asked for, the model has 128, 256, 768");
    assert_eq!(Dimensions::From(32).check(Some(33), 768).unwrap(), 33);
    assert_eq!(refused(Dimensions::From(32), 769), "769 dimensions are asked for, the model has 32 to 768");
}

#[test]
fn a_logit_becomes_a_probability_and_two_the_probability_of_the_first() {
    let of = |vectors: &[f32], width| Documents::Pairs.relevance(vectors, width);

    assert_eq!(of(&[0.0], 1)[0].score, 0.5);
    assert_eq!(of(&[2.0, -1.0], 1).iter().map(|of| of.raw).collect::<Vec<_>>(), [2.0, -1.0]);
    let yes = of(&[3.0, 1.0], 2)[0];
    assert_eq!(yes.raw, 2.0);
    assert!((f64::from(yes.score) - 1.0 / (1.0 + (-2.0_f64).exp())).abs() < 1e-7);
}

#[test]
fn documents_of_all_blocks_are_compared_with_one_query() {
    // Two blocks of one document each, with queries at a right angle; the first one's document is its query's twin.
    let vectors = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
    let of = Documents::Blocks(vec![1, 1]).relevance(&vectors, 2);

    // The blocks weigh 1 and 1/2.
    let expected = 1.0 / (1.0_f32 + 0.25).sqrt();
    assert!(of.iter().all(|of| (of.score - expected).abs() < 1e-6), "{of:?}");
    let alone = Documents::Blocks(vec![2]).relevance(&[1.0, 0.0, 0.0, 2.0, 0.0, 3.0], 2);
    assert_eq!(alone.iter().map(|of| of.score).collect::<Vec<_>>(), [0.0, 1.0]);
}

#[test]
fn a_prompt_that_a_model_has_not_is_refused_with_those_that_it_has() {
    let known = vec!["document".to_owned(), "query".to_owned()];
    let error = PoolingError::NoPrompt { asked: "code".into(), known };
    assert_eq!(error.to_string(), "the model has no prompt `code`, it has document, query");
}
