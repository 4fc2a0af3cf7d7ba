//! How long a model may think: when its budget is spent, the end of its reasoning is put in its mouth.

use serde::{Deserialize, Serialize};

/// A limit on the reasoning of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThinkingLimit {
    /// Tokens of reasoning, markers not counted. 0 ends it before it says anything.
    pub budget: u32,
    /// The token that begins reasoning.
    pub begin: u32,
    /// The token that ends it; this one is forced.
    pub end: u32,
    /// Further tokens that end it.
    pub other_ends: Vec<u32>,
    /// Whether the prompt has opened it.
    pub open: bool,
}

/// How much of a limit is spent. Follows from the tokens of the answer alone, so that a preempted sequence goes on.
#[derive(Debug, Clone)]
pub(super) struct Thinking {
    limit: ThinkingLimit,
    open: bool,
    spent: u32,
}

impl Thinking {
    /// After the tokens of the answer so far.
    pub(super) fn new(limit: &ThinkingLimit, answer: &[u32]) -> Self {
        let mut thinking = Self { open: limit.open, limit: limit.clone(), spent: 0 };
        answer.iter().for_each(|&id| thinking.add(id));
        thinking
    }

    /// The token that has to come next, if the budget is spent.
    pub(super) fn forced(&self) -> Option<u32> {
        (self.open && self.spent >= self.limit.budget).then_some(self.limit.end)
    }

    /// Counts one more token of the answer.
    pub(super) fn add(&mut self, id: u32) {
        let limit = &self.limit;
        if !self.open {
            self.open = id == limit.begin;
        } else if id == limit.end || limit.other_ends.contains(&id) {
            self.open = false;
        } else {
            self.spent = self.spent.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u32 = 1;
    const END: u32 = 2;
    const CALL: u32 = 3;

    fn limit(budget: u32, open: bool) -> ThinkingLimit {
        ThinkingLimit { budget, begin: BEGIN, end: END, other_ends: vec![CALL], open }
    }

    fn forced(limit: &ThinkingLimit, answer: &[u32]) -> Option<u32> {
        Thinking::new(limit, answer).forced()
    }

    #[test]
    fn the_end_is_forced_when_the_budget_is_spent() {
        assert_eq!(forced(&limit(2, true), &[9]), None);
        assert_eq!(forced(&limit(2, true), &[9, 9]), Some(END));
        assert_eq!(forced(&limit(2, true), &[9, 9, END]), None);
        assert_eq!(forced(&limit(0, true), &[]), Some(END));
    }

    #[test]
    fn an_answer_that_does_not_think_is_left_alone() {
        assert_eq!(forced(&limit(0, false), &[9, 9, 9]), None);
        assert_eq!(forced(&limit(1, false), &[9, BEGIN, 9]), Some(END));
        assert_eq!(forced(&limit(0, true), &[CALL, 9, 9]), None);
    }

    #[test]
    fn all_reasoning_of_an_answer_is_counted() {
        assert_eq!(forced(&limit(2, true), &[9, END, 9, 9, BEGIN]), None);
        assert_eq!(forced(&limit(2, true), &[9, END, 9, 9, BEGIN, 9]), Some(END));
    }
}
