//! Weights: probabilities but for a common factor.

/// Turns logits into weights for a temperature; the most probable token weighs 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    max: f32,
    inverse_temperature: f32,
}

/// Tokens that are weighed together: enough for the compiler to use vector instructions, few enough for the stack.
pub(super) const BLOCK: usize = 128;

impl Scale {
    /// `max`: the largest logit, finite. `temperature`: above 0.
    pub(super) fn new(max: f32, temperature: f32) -> Self {
        Self { max, inverse_temperature: temperature.recip() }
    }

    /// The logarithm of the weight, 0 at most.
    pub(super) fn log_weight(self, logit: f32) -> f32 {
        (logit - self.max) * self.inverse_temperature
    }

    /// The weight, exact to seven digits like the logits; 0 below 1e-37.
    pub(super) fn weight(self, logit: f32) -> f64 {
        f64::from(exp(self.log_weight(logit)))
    }

    /// The sum of all weights.
    pub(super) fn total(self, logits: &[f32]) -> f64 {
        logits.chunks(BLOCK).map(|block| self.block_total(block)).sum()
    }

    /// The sum of the weights of at most [`BLOCK`] tokens.
    pub(super) fn block_total(self, logits: &[f32]) -> f64 {
        let mut weights = [0.0; BLOCK];
        for (weight, &logit) in weights.iter_mut().zip(logits) {
            *weight = exp(self.log_weight(logit));
        }
        // Eight sums side by side, of sixteen weights each: they lose no more than the weights have lost.
        let mut sums = [0.0_f32; 8];
        for eight in weights.chunks(sums.len()) {
            sums.iter_mut().zip(eight).for_each(|(sum, &weight)| *sum += weight);
        }
        sums.iter().map(|&sum| f64::from(sum)).sum()
    }
}

/// `e^x` for `x` of 0 or less, with arithmetic only: a call per token of the vocabulary is too slow.
///
/// Source: Moshier, Cephes Math Library, `expf`: `x = n ln 2 + r`, a polynomial for `e^r`, and `n` into the exponent.
fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let bounded = x.max(-86.0);
    let rounded = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = bounded - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let mantissa = p * (r * r) + r + 1.0;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3F80_0000));
    if x < -86.0 { 0.0 } else { mantissa * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_the_last_digits_of_f32() {
        assert_eq!((exp(0.0), exp(-87.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        for step in 0..86_000 {
            let x = -(step as f32) / 1000.0;
            let (found, exact) = (f64::from(exp(x)), f64::from(x).exp());
            // Two units in the last place of f32.
            assert!((found / exact - 1.0).abs() < 2.5e-7, "{x}: {found} {exact}");
        }
    }

    #[test]
    fn the_total_is_the_sum_of_the_weights() {
        let logits: Vec<f32> = (0..300).map(|i| -(i as f32) / 30.0).collect();
        let scale = Scale::new(0.0, 0.7);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) / 0.7).exp()).sum();
        assert!((scale.total(&logits) / sum - 1.0).abs() < 1e-6);
    }
}
