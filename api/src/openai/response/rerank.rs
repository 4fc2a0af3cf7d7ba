use super::PromptUsage;
use serde::Serialize;
use std::mem;

/// The answer of `POST /v1/rerank` and `/v2/rerank`: what Jina's, Cohere's and vLLM's clients read, together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RerankResponse {
    /// `rerank-…`.
    pub id: String,
    object: &'static str,
    /// The model that answered.
    pub model: String,
    /// The best documents, best first.
    pub results: Vec<RerankResult>,
    /// Tokens that the model read.
    pub usage: PromptUsage,
    meta: Meta,
}

/// A document and how well it answers the query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RerankResult {
    /// Its place in the request.
    pub index: usize,
    /// Its score, in [0, 1].
    pub relevance_score: f32,
    /// Its text, where the request asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<RankedDocument>,
}

/// The text of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RankedDocument {
    /// What the model read, uncut.
    pub text: String,
}

/// The version of Cohere's API that a route speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum RerankVersion {
    /// `/v1/rerank`, and `/rerank`.
    #[serde(rename = "1")]
    V1,
    /// `/v2/rerank`.
    #[serde(rename = "2")]
    V2,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Meta {
    api_version: ApiVersion,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ApiVersion {
    version: RerankVersion,
}

/// An entry of the bare list that answers the form of text-embeddings-inference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TeiRank {
    /// Its place in the request.
    pub index: usize,
    /// Its score, as the request asked for it.
    pub score: f32,
    /// Its text, where the request asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl RerankResponse {
    /// The answer that holds these results.
    pub fn new(
        id: String,
        model: String,
        results: Vec<RerankResult>,
        prompt_tokens: usize,
        version: RerankVersion,
    ) -> Self {
        let meta = Meta { api_version: ApiVersion { version } };
        Self { id, object: "list", model, results, usage: PromptUsage::new(prompt_tokens), meta }
    }
}

impl RerankResult {
    /// Ranks documents by their scores, given in the order of the request, and keeps the best `top_n`.
    /// `documents`: their texts, where the answer repeats them.
    pub fn rank(scores: &[f32], documents: Option<Vec<String>>, top_n: Option<usize>) -> Vec<Self> {
        let entry = |(index, relevance_score, text): (_, _, Option<String>)| Self {
            index,
            relevance_score,
            document: text.map(|text| RankedDocument { text }),
        };
        ranked(scores, documents).take(top_n.unwrap_or(usize::MAX)).map(entry).collect()
    }
}

impl TeiRank {
    /// Ranks texts by their scores, given in the order of the request. `texts`: where the answer repeats them.
    pub fn rank(scores: &[f32], texts: Option<Vec<String>>) -> Vec<Self> {
        ranked(scores, texts).map(|(index, score, text)| Self { index, score, text }).collect()
    }
}

/// Best first; equal scores stay in the order of the request.
fn ranked(scores: &[f32], mut texts: Option<Vec<String>>) -> impl Iterator<Item = (usize, f32, Option<String>)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.into_iter().map(move |i| (i, scores[i], texts.as_mut().map(|texts| mem::take(&mut texts[i]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Option<Vec<String>> {
        Some(["a", "b", "c"].map(str::to_owned).to_vec())
    }

    #[test]
    fn an_answer_has_what_every_client_reads() {
        let results = RerankResult::rank(&[0.1, 0.9, 0.5], texts(), Some(2));
        let answer = RerankResponse::new("rerank-1".into(), "m".into(), results, 12, RerankVersion::V2);

        insta::assert_snapshot!(serde_json::to_string(&answer).unwrap(), @r#"{"id":"rerank-1","object":"list","model":"m","results":[{"index":1,"relevance_score":0.9,"document":{"text":"b"}},{"index":2,"relevance_score":0.5,"document":{"text":"c"}}],"usage":{"prompt_tokens":12,"total_tokens":12},"meta":{"api_version":{"version":"2"}}}"#);
    }

    #[test]
    fn the_other_form_is_a_bare_list() {
        let with_text = serde_json::to_string(&TeiRank::rank(&[-3.5, 2.0, 0.25], texts())).unwrap();
        let without = serde_json::to_string(&TeiRank::rank(&[0.25, 0.75], None)).unwrap();

        assert_eq!(
            with_text,
            r#"[{"index":1,"score":2.0,"text":"b"},{"index":2,"score":0.25,"text":"c"},{"index":0,"score":-3.5,"text":"a"}]"#
        );
        assert_eq!(without, r#"[{"index":1,"score":0.75},{"index":0,"score":0.25}]"#);
    }

    #[test]
    fn equal_scores_stay_in_order_and_more_than_all_are_all() {
        let ranked = RerankResult::rank(&[0.5, 0.7, 0.5], None, Some(9));

        assert_eq!(ranked.iter().map(|result| result.index).collect::<Vec<_>>(), [1, 0, 2]);
        assert!(ranked.iter().all(|result| result.document.is_none()));
    }
}
