use crate::model::RopeSpec;

/// Cosine and sine by position, made as far as any sequence has come.
#[derive(Debug)]
pub(super) struct RopeTable {
    frequencies: Vec<f32>,
    factor: f32,
    /// `[positions, dim / 2]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    pub(super) fn new(spec: &RopeSpec) -> Self {
        let (frequencies, factor) = spec.frequencies();
        Self { frequencies, factor, cos: Vec::new(), sin: Vec::new() }
    }

    /// Makes the table reach positions below `end`.
    pub(super) fn reach(&mut self, end: usize) {
        let half = self.frequencies.len();
        let made = self.cos.len() / half.max(1);
        for position in made..if end > made { end.next_power_of_two() } else { made } {
            for frequency in &self.frequencies {
                let angle = position as f32 * frequency;
                self.cos.push(angle.cos() * self.factor);
                self.sin.push(angle.sin() * self.factor);
            }
        }
    }

    /// Cosine and sine at `position`, `[dim / 2]` each.
    pub(super) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let range = position * half..(position + 1) * half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
