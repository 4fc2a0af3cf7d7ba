//! The recurrence of gated delta nets, and the short convolution before it.
//!
//! Tokens are taken one after the other, in prompts as in answers: a state is the same however its tokens were cut into
//! steps. What is parallel are heads, and sixteen components of the value at a time: each has a recurrence of its own, whose
//! part of the state (`key_dim` vectors, 8 KiB for the usual 128) stays in the nearest cache for all tokens of a row.

use super::TILE;
use super::lanes::{Form, Kernel, Lanes};
use super::math;

/// Taps that a convolution has at most.
pub const MAX_TAPS: usize = 8;

/// `out = silu(Σ weights[t] * inputs[t])`, channel by channel: a causal convolution at one position.
///
/// `weights` and `inputs`: where each tap's begin, the oldest first; each is as long as `out`. A tap that lies before the
/// first token is left out.
///
/// # Panics
/// If there are more than [`MAX_TAPS`] taps, or fewer weights than inputs.
///
/// # Safety
/// Every pointer leads to as many readable elements as `out` has, which nobody writes meanwhile.
pub unsafe fn convolve(form: Form, weights: &[*const f32], inputs: &[*const f32], out: &mut [f32]) {
    assert!(inputs.len() <= weights.len() && weights.len() <= MAX_TAPS, "{} taps", weights.len());
    let weights = &weights[weights.len() - inputs.len()..];
    // SAFETY: as the caller vouches.
    unsafe { form.run(Convolution { weights, inputs, out }) }
}

struct Convolution<'a> {
    weights: &'a [*const f32],
    inputs: &'a [*const f32],
    out: &'a mut [f32],
}

impl Kernel for Convolution<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n = self.out.len();
        let whole = n - n % TILE;
        for i in (0..whole).step_by(TILE) {
            let mut sum = L::splat(0.0);
            for tap in 0..self.inputs.len() {
                sum = L::fma(L::load(self.weights[tap].add(i)), L::load(self.inputs[tap].add(i)), sum);
            }
            L::store(self.out.as_mut_ptr().add(i), math::silu::<L>(sum));
        }
        if whole < n {
            let mut sum = L::splat(0.0);
            for tap in 0..self.inputs.len() {
                let (mut weights, mut inputs) = ([0.0; TILE], [0.0; TILE]);
                for i in whole..n {
                    (weights[i - whole], inputs[i - whole]) = (*self.weights[tap].add(i), *self.inputs[tap].add(i));
                }
                sum = L::fma(L::load(weights.as_ptr()), L::load(inputs.as_ptr()), sum);
            }
            let mut out = [0.0; TILE];
            L::store(out.as_mut_ptr(), math::silu::<L>(sum));
            self.out[whole..].copy_from_slice(&out[..n - whole]);
        }
    }
}

/// Some consecutive tokens of one sequence, for sixteen components of one value head.
#[derive(Debug, Clone, Copy)]
pub struct DeltaRule {
    /// `[key_dim, 16]`: from each component of a key to those of the value.
    pub state: *mut f32,
    /// Components of a key.
    pub key_dim: usize,
    /// How many tokens.
    pub tokens: usize,
    /// The first token's query and key, `[key_dim]` each, and its sixteen components of the value.
    pub q: *const f32,
    /// See `q`.
    pub k: *const f32,
    /// See `q`.
    pub v: *const f32,
    /// What is left of the state at the first token.
    pub decay: *const f32,
    /// How much of what it has under a key is replaced at the first token.
    pub beta: *const f32,
    /// From a token's to the next one's, in all of these.
    pub stride: usize,
    /// Sixteen components of the first token's result.
    pub out: *mut f32,
    /// From a token's result to the next one's.
    pub out_stride: usize,
}

impl DeltaRule {
    /// Computes it: `S = decay * S; S += k ⊗ beta (v - kᵀ S); out = qᵀ S`, token by token.
    ///
    /// # Safety
    /// All that is pointed to is readable, and the state and the results writable, as far as the fields say; nobody else
    /// uses state and results, or writes the rest, meanwhile.
    pub unsafe fn run(self, form: Form) {
        // SAFETY: as the caller vouches.
        unsafe { form.run(self) }
    }
}

/// Sums that are added up side by side: one sum would wait for each of its additions.
const SUMS: usize = 4;

impl Kernel for DeltaRule {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n = self.key_dim;
        let whole = n - n % SUMS;
        for token in 0..self.tokens {
            let (q, k) = (self.q.add(token * self.stride), self.k.add(token * self.stride));
            let decay = L::splat(*self.decay.add(token * self.stride));
            let beta = L::splat(*self.beta.add(token * self.stride));

            let mut found = [L::splat(0.0); SUMS];
            for i in (0..whole).step_by(SUMS) {
                for j in 0..SUMS {
                    found[j] = L::fma(L::splat(*k.add(i + j)), L::load(self.state.add((i + j) * TILE)), found[j]);
                }
            }
            for i in whole..n {
                found[0] = L::fma(L::splat(*k.add(i)), L::load(self.state.add(i * TILE)), found[0]);
            }
            let found = L::mul(decay, added::<L>(found));
            let change = L::mul(beta, L::sub(L::load(self.v.add(token * self.stride)), found));

            let mut out = [L::splat(0.0); SUMS];
            for i in (0..whole).step_by(SUMS) {
                for j in 0..SUMS {
                    let state = self.state.add((i + j) * TILE);
                    let new = L::fma(L::splat(*k.add(i + j)), change, L::mul(decay, L::load(state)));
                    L::store(state, new);
                    out[j] = L::fma(L::splat(*q.add(i + j)), new, out[j]);
                }
            }
            for i in whole..n {
                let state = self.state.add(i * TILE);
                let new = L::fma(L::splat(*k.add(i)), change, L::mul(decay, L::load(state)));
                L::store(state, new);
                out[0] = L::fma(L::splat(*q.add(i)), new, out[0]);
            }
            L::store(self.out.add(token * self.out_stride), added::<L>(out));
        }
    }
}

#[inline(always)]
unsafe fn added<L: Lanes>([a, b, c, d]: [L::F; SUMS]) -> L::F {
    L::add(L::add(a, b), L::add(c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn a_convolution_is_exact_and_the_same_in_every_form() {
        for (n, taps) in [(5, 4), (16, 4), (40, 2), (24, 1)] {
            let (weights, inputs) = (numbers(n * 4, 1), numbers(n * taps, 2));
            let weights: Vec<&[f32]> = weights.chunks_exact(n).collect();
            let inputs: Vec<&[f32]> = inputs.chunks_exact(n).collect();
            let mut portable = None;
            for form in Form::available().into_iter().rev() {
                let (w, x) = (|x: &&[f32]| x.as_ptr(), |x: &&[f32]| x.as_ptr());
                let (w, x): (Vec<_>, Vec<_>) = (weights.iter().map(w).collect(), inputs.iter().map(x).collect());
                let mut out = vec![0.0; n];
                // SAFETY: every tap has n elements.
                unsafe { convolve(form, &w, &x, &mut out) };
                for i in 0..n {
                    let taps = weights[4 - taps..].iter().zip(&inputs);
                    let sum: f64 = taps.map(|(w, x)| f64::from(w[i]) * f64::from(x[i])).sum();
                    let exact = sum / (1.0 + (-sum).exp());
                    assert!((f64::from(out[i]) - exact).abs() < 1e-6, "{form:?} {n} {i}");
                }
                assert_eq!(*portable.get_or_insert_with(|| out.clone()), out, "{form:?}");
            }
        }
    }

    /// Results and the last state.
    fn run(form: Form, n: usize, cuts: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let tokens = 9;
        let stride = 2 * n + TILE + 2;
        let mut x = numbers(tokens * stride, 3);
        for row in x.chunks_exact_mut(stride) {
            let size = row[n..2 * n].iter().map(|x| x * x).sum::<f32>().sqrt();
            row[n..2 * n].iter_mut().for_each(|x| *x /= size);
            let scalars = &mut row[2 * n + TILE..];
            scalars.iter_mut().for_each(|x| *x = 0.5 + *x / 4.0);
        }
        let mut state = numbers(n * TILE, 4);
        let mut out = vec![0.0; tokens * TILE];
        let at = |first: usize| x[first..].as_ptr();
        let mut first = 0;
        for end in cuts.iter().copied().chain([tokens]) {
            let rule = DeltaRule {
                state: state.as_mut_ptr(),
                key_dim: n,
                tokens: end - first,
                q: at(first * stride),
                k: at(first * stride + n),
                v: at(first * stride + 2 * n),
                decay: at(first * stride + 2 * n + TILE),
                beta: at(first * stride + 2 * n + TILE + 1),
                stride,
                out: out[first * TILE..].as_mut_ptr(),
                out_stride: TILE,
            };
            // SAFETY: the rows and results of these tokens are there.
            unsafe { rule.run(form) };
            first = end;
        }
        let mut exact = numbers(n * TILE, 4).into_iter().map(f64::from).collect::<Vec<_>>();
        for (row, out) in x.chunks_exact(stride).zip(out.chunks_exact(TILE)) {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let (decay, beta) = (row[2 * n + TILE], row[2 * n + TILE + 1]);
            exact.iter_mut().for_each(|s| *s *= decay);
            for lane in 0..TILE {
                let found: f64 = (0..n).map(|i| row[n + i] * exact[i * TILE + lane]).sum();
                let change = (row[2 * n + lane] - found) * beta;
                (0..n).for_each(|i| exact[i * TILE + lane] += row[n + i] * change);
                let result: f64 = (0..n).map(|i| row[i] * exact[i * TILE + lane]).sum();
                assert!((result - f64::from(out[lane])).abs() < 1e-5, "{form:?} {n}");
            }
        }
        (out, state)
    }

    #[test]
    fn the_delta_rule_is_exact_and_the_same_bits_in_every_form_and_cut() {
        for n in [1, 4, 10, 128] {
            let portable = run(Form::PORTABLE, n, &[]);
            for form in Form::available() {
                for cuts in [&[][..], &[1], &[4, 5], &[1, 2, 3, 4, 5, 6, 7, 8]] {
                    assert!(run(form, n, cuts) == portable, "{form:?} {n} {cuts:?}");
                }
            }
        }
    }
}
