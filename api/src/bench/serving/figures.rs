use super::answer::Answer;
use crate::bench::table::{Table, figure, maybe, spread};
use lmx_runtime::bench::Spread;
use serde::Serialize;

/// Where a share of all samples lies below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
}

/// What clients saw of requests of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadFigure {
    /// Streams at once.
    pub streams: usize,
    /// How often.
    pub runs: usize,
    /// Median tokens of the prompts.
    pub prompt_tokens: f64,
    /// Median tokens of them that the server found computed; absent if it does not say.
    pub cached_tokens: Option<f64>,
    /// Median tokens of the answers.
    pub answer_tokens: f64,
    /// Answers that were shorter than asked for.
    pub short_answers: usize,
    /// Milliseconds to the first text.
    pub ttft_ms: Percentiles,
    /// Milliseconds between texts; absent if no answer had two.
    pub itl_ms: Option<Percentiles>,
    /// Tokens per second of one stream, after its first text.
    pub stream_tokens_per_s: Option<Spread>,
    /// Tokens per second of all streams, prompts included: tokens of a run over its time.
    pub tokens_per_s: Spread,
    /// Tokens per second of all streams while every one of them decoded.
    pub steady_tokens_per_s: Option<Spread>,
}

/// What a scenario saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServingReport {
    /// What it is, in words.
    pub what: String,
    /// Kinds of requests.
    pub rows: Vec<ServingRow>,
    /// Memory of this process afterwards, in bytes, if the server runs in it.
    pub resident_bytes: Option<u64>,
}

/// One kind of requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServingRow {
    /// `cold`: nothing of the prompt has been seen before. `warm`: what can be has.
    pub kind: &'static str,
    /// What clients saw.
    #[serde(flatten)]
    pub figure: LoadFigure,
}

impl Percentiles {
    /// The smallest samples that are not below their share of all; `None` of none.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { p50: at(50)?, p95: at(95)?, p99: at(99)? })
    }
}

impl LoadFigure {
    /// Of runs of `streams` answers each, which were to have `answer_tokens`; `None` if there are no runs.
    pub(super) fn of(runs: &[Vec<Answer>], answer_tokens: usize) -> Option<Self> {
        let all = || runs.iter().flatten();
        let median = |of: &dyn Fn(&Answer) -> Option<f64>| Spread::of(all().filter_map(of)).map(|spread| spread.median);
        Some(Self {
            streams: runs.first()?.len(),
            runs: runs.len(),
            prompt_tokens: median(&|answer| Some(answer.prompt_tokens as f64))?,
            cached_tokens: median(&|answer| Some(answer.cached_tokens? as f64)),
            answer_tokens: median(&|answer| Some(answer.answer_tokens as f64))?,
            short_answers: all().filter(|answer| answer.answer_tokens < answer_tokens as u64).count(),
            ttft_ms: Percentiles::of(all().map(Answer::ttft_ms))?,
            itl_ms: Percentiles::of(all().flat_map(Answer::gaps_ms)),
            stream_tokens_per_s: Spread::of(all().filter_map(Answer::tokens_per_s)),
            tokens_per_s: Spread::of(runs.iter().filter_map(|run| whole(run)))?,
            steady_tokens_per_s: Spread::of(runs.iter().filter_map(|run| steady(run))),
        })
    }
}

/// Tokens of a run over the time from its first request to its last text.
fn whole(run: &[Answer]) -> Option<f64> {
    let begun = run.iter().map(|answer| answer.begun).min()?;
    let ended = run.iter().map(Answer::last).max()?;
    let tokens: u64 = run.iter().map(|answer| answer.answer_tokens).sum();
    Some(tokens as f64 / (ended - begun).as_secs_f64())
}

/// Tokens per second from when the last stream has begun until the first one ends; `None` if there is no such time.
fn steady(run: &[Answer]) -> Option<f64> {
    let from = run.iter().map(Answer::first).max()?;
    let to = run.iter().map(Answer::last).min()?;
    let tokens: f64 = run.iter().map(|answer| answer.tokens_between(from, to)).sum();
    (to > from).then(|| tokens / (to - from).as_secs_f64())
}

impl ServingReport {
    pub(in crate::bench) fn tables(&self) -> Vec<Table> {
        let columns = [
            "prompt",
            "streams",
            "runs",
            "prompt tokens",
            "cached",
            "answer tokens",
            "TTFT ms p50 / p95",
            "ITL ms p50 / p95 / p99",
            "tokens/s of a stream",
            "tokens/s of all",
            "while all decode",
        ];
        let mut table = Table::new(self.what.clone(), &columns);
        for ServingRow { kind, figure: of } in &self.rows {
            let itl = of.itl_ms.map(|itl| format!("{} / {} / {}", figure(itl.p50), figure(itl.p95), figure(itl.p99)));
            table.row([
                (*kind).to_owned(),
                of.streams.to_string(),
                of.runs.to_string(),
                format!("{:.0}", of.prompt_tokens),
                of.cached_tokens.map_or_else(|| "-".to_owned(), |tokens| format!("{tokens:.0}")),
                format!("{:.0}", of.answer_tokens),
                format!("{} / {}", figure(of.ttft_ms.p50), figure(of.ttft_ms.p95)),
                itl.unwrap_or_else(|| "-".to_owned()),
                maybe(of.stream_tokens_per_s.as_ref()),
                spread(&of.tokens_per_s),
                maybe(of.steady_tokens_per_s.as_ref()),
            ]);
        }
        vec![table]
    }

    /// Answers that were shorter than asked for.
    pub fn short_answers(&self) -> usize {
        self.rows.iter().map(|row| row.figure.short_answers).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn percentiles_are_samples_by_rank() {
        let of = |n: u32| Percentiles::of((1..=n).rev().map(f64::from));
        assert_eq!(of(100), Some(Percentiles { p50: 50.0, p95: 95.0, p99: 99.0 }));
        assert_eq!(of(3), Some(Percentiles { p50: 2.0, p95: 3.0, p99: 3.0 }));
        assert_eq!(of(0), None);
    }

    #[test]
    fn a_run_is_counted_whole_and_while_all_decode() {
        let begun = Instant::now();
        let answer = |times: [u64; 3], answer_tokens| Answer {
            begun,
            chunks: times.map(|ms| begun + Duration::from_millis(ms)).to_vec(),
            prompt_tokens: 10,
            cached_tokens: None,
            answer_tokens,
        };
        let run = vec![answer([100, 200, 300], 3), answer([200, 300, 400], 6)];

        let figure = LoadFigure::of(&[run], 6).unwrap();

        assert_eq!((figure.streams, figure.runs, figure.short_answers), (2, 1, 1));
        assert!((figure.tokens_per_s.median - 9.0 / 0.4).abs() < 1e-6);
        // Between 200 and 300 ms: one chunk of one token, and one of two.
        assert!((figure.steady_tokens_per_s.unwrap().median - 30.0).abs() < 1e-6);
        assert_eq!(figure.ttft_ms, Percentiles { p50: 100.0, p95: 200.0, p99: 200.0 });
    }
}
