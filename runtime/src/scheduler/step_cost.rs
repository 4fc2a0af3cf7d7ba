//! How many prompt tokens a step can take without holding up the streams that it also serves.

use std::time::Duration;

/// Prompt tokens beside decodes while nothing was measured yet, in blocks.
const FIRST_BLOCKS: usize = 4;
/// The part of the stall budget that is planned with: step times scatter, and the cost of a prompt token grows with the
/// context before it.
const PLANNED_SHARE: f64 = 0.6;
/// Weight of the newest step in the averages when it took longer than they say: a budget is kept by believing bad news.
const SLOWER: f64 = 0.7;
/// The same when it was faster.
const FASTER: f64 = 0.1;

/// A running estimate of the time of a step: a base for the decodes plus a price per prompt token.
#[derive(Debug)]
pub(super) struct StepCost {
    budget: Duration,
    block_tokens: usize,
    decode_sec: Option<f64>,
    prefill_sec_per_token: Option<f64>,
}

impl StepCost {
    pub(super) fn new(budget: Duration, block_tokens: usize) -> Self {
        Self { budget, block_tokens, decode_sec: None, prefill_sec_per_token: None }
    }

    /// Learns from a step of `prefill_tokens` prompt tokens (0 for a step of decodes only).
    pub(super) fn observe(&mut self, prefill_tokens: usize, step: Duration) {
        let step = step.as_secs_f64();
        if prefill_tokens == 0 {
            blend(&mut self.decode_sec, step);
        } else if prefill_tokens >= self.block_tokens {
            let spent = (step - self.decode_sec.unwrap_or(0.0)).max(step * 0.1);
            blend(&mut self.prefill_sec_per_token, spent / prefill_tokens as f64);
        }
    }

    /// Most prompt tokens for a step that also decodes: whole blocks, at least one.
    pub(super) fn prefill_cap(&self) -> usize {
        let blocks = match self.prefill_sec_per_token {
            None => FIRST_BLOCKS,
            Some(price) => {
                let left = self.budget.as_secs_f64() * PLANNED_SHARE - self.decode_sec.unwrap_or(0.0);
                (left / price) as usize / self.block_tokens
            }
        };
        blocks.max(1) * self.block_tokens
    }
}

fn blend(average: &mut Option<f64>, newest: f64) {
    *average = Some(average.map_or(newest, |old| old + if newest > old { SLOWER } else { FASTER } * (newest - old)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_keeps_a_step_within_the_stall_budget() {
        let mut cost = StepCost::new(Duration::from_millis(200), 16);
        cost.observe(0, Duration::from_millis(20));
        cost.observe(160, Duration::from_millis(180)); // 1 ms per prompt token

        assert_eq!(cost.prefill_cap(), 96); // 0.6 * 200 ms - 20 ms = 100 tokens
    }

    #[test]
    fn one_slow_step_shrinks_the_chunks_at_once_and_fast_ones_let_them_grow_slowly() {
        let mut cost = StepCost::new(Duration::from_millis(200), 16);
        cost.observe(100, Duration::from_millis(100)); // 1 ms per prompt token
        let usual = cost.prefill_cap();

        cost.observe(100, Duration::from_millis(300));
        let slow = cost.prefill_cap();
        cost.observe(100, Duration::from_millis(100));

        assert!(slow <= usual / 2, "{slow} of {usual}");
        assert!((slow..usual).contains(&cost.prefill_cap()));
    }

    #[test]
    fn a_prompt_gets_a_block_even_when_the_budget_is_too_small() {
        let mut cost = StepCost::new(Duration::from_millis(5), 16);
        cost.observe(0, Duration::from_millis(20));
        cost.observe(16, Duration::from_millis(40));

        assert_eq!(cost.prefill_cap(), 16);
    }
}
