//! `lmx rerank`: documents by how relevant they are, without a server.

use super::args::Outcome;
use super::args_encode::RerankArgs;
use super::encode::{load, read_texts};
use super::terminal::{fail, print};
use lmx_runtime::pooling::{Cut, Side};
use serde_json::json;

/// Characters of a document that a line shows.
const SHOWN: usize = 60;

/// Runs the command.
pub fn run(args: &RerankArgs) -> Outcome {
    rerank(args).unwrap_or_else(|outcome| outcome)
}

fn rerank(args: &RerankArgs) -> Result<Outcome, Outcome> {
    let documents = read_texts(&args.files, !args.lines)?;
    let mut model = load(&args.model, true, args.compute, &args.config)?;
    let texts: Vec<&str> = documents.iter().map(|document| document.text.as_str()).collect();
    let cut = if args.truncate { Cut::To { tokens: None, side: Side::Right } } else { Cut::Refuse };
    let ranking = model.text.reranking(&args.query, &texts, None, None, cut);
    let (rows, of) = ranking.map_err(|error| fail(Outcome::Usage, error))?.into_rows();
    let vectors = model.vectors(&rows)?;
    let relevance = of.relevance(&vectors, model.text.width);
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by(|&a, &b| relevance[b].score.total_cmp(&relevance[a].score));
    order.truncate(args.top.map_or(usize::MAX, std::num::NonZero::get));
    for (rank, &index) in order.iter().enumerate() {
        let (document, score) = (&documents[index], relevance[index].score);
        let place = document.place();
        let line = match args.json {
            true => {
                json!({ "rank": rank + 1, "index": index, "relevance_score": score, "document": place }).to_string()
            }
            false => {
                let start: String =
                    document.text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
                format!("{:>3}  {score:.4}  {place}  {start}", rank + 1)
            }
        };
        print(&format!("{line}\n"));
    }
    Ok(Outcome::Done)
}
