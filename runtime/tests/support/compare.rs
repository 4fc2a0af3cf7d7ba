/// What an output may differ by from its reference: the thresholds of the reference generator's own comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    /// Largest |error| of a position over the standard deviation of the reference logits.
    pub(crate) err: f64,
    /// Kullback-Leibler divergence of a position.
    pub(crate) kl: f64,
    /// Least share of positions with the same best token, near-ties not counted.
    pub(crate) top1: f64,
}

/// Float32 compute: two references are 1e-5 apart, so more than this is a bug.
pub(crate) const F32: Tolerance = Tolerance { err: 1e-3, kl: 1e-6, top1: 1.0 };

/// How far an output is from its reference.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Distance {
    /// Largest over the positions.
    pub(crate) err: f64,
    /// Root mean square of the error over the standard deviation of the reference.
    pub(crate) rms: f64,
    /// Largest over the positions.
    pub(crate) kl: f64,
    /// Share of positions with the same best token.
    pub(crate) top1: f64,
    /// The same, positions whose two best logits are closer than the tolerance counted as equal.
    pub(crate) top1_clear: f64,
}

impl Distance {
    pub(crate) fn within(&self, tolerance: Tolerance) -> bool {
        self.err <= tolerance.err && self.kl <= tolerance.kl && self.top1_clear >= tolerance.top1
    }
}

/// Compares logits `[positions, vocab]`.
pub(crate) fn logits(reference: &[f32], got: &[f32], vocab: usize, tolerance: Tolerance) -> Distance {
    assert_eq!(reference.len(), got.len());
    assert!(got.iter().all(|x| x.is_finite()), "logits are not finite");
    let count = reference.len() as f64;
    let mean = reference.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let std = (reference.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count).sqrt();
    let positions = reference.len() / vocab;
    let mut distance = Distance::default();
    let (mut squares, mut same, mut clear) = (0.0, 0, 0);
    for (reference, got) in reference.chunks(vocab).zip(got.chunks(vocab)) {
        let errors = || reference.iter().zip(got).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
        distance.err = distance.err.max(errors().fold(0.0, f64::max) / std);
        squares += errors().map(|error| error * error).sum::<f64>();
        let (p, q) = (log_softmax(reference), log_softmax(got));
        distance.kl = distance.kl.max(p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum());
        let equal = argmax(reference) == argmax(got);
        same += usize::from(equal);
        clear += usize::from(equal || margin(reference) <= 2.0 * tolerance.err * std);
    }
    distance.rms = (squares / count).sqrt() / std;
    distance.top1 = same as f64 / positions as f64;
    distance.top1_clear = clear as f64 / positions as f64;
    distance
}

/// The largest [`typical_error`] with 8-bit activations: that of models without experts is 0.05 to 0.2.
pub(crate) const ROUTED_INT8: f64 = 0.2;

/// The error of the middle position, over the standard deviation of the reference. Of a mixture of experts in few bits: a
/// router that chooses another expert than the reference changes a whole row of random weights.
pub(crate) fn typical_error(reference: &[f32], got: &[f32], vocab: usize) -> f64 {
    let single = |(reference, got): (&[f32], &[f32])| logits(reference, got, vocab, F32).err;
    let mut errors: Vec<f64> = reference.chunks(vocab).zip(got.chunks(vocab)).map(single).collect();
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}

pub(crate) fn argmax(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap()
}

/// Distance between the best and the second-best logit.
pub(crate) fn margin(row: &[f32]) -> f64 {
    let best = argmax(row);
    let second = row.iter().enumerate().filter(|(i, _)| *i != best).map(|(_, &x)| x).fold(f32::NEG_INFINITY, f32::max);
    f64::from(row[best]) - f64::from(second)
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = || row.iter().map(|&x| f64::from(x) - f64::from(top));
    let sum = shifted().map(f64::exp).sum::<f64>().ln();
    shifted().map(|x| x - sum).collect()
}
