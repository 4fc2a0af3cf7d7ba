//! Norms, gates and rotary embeddings, one row of floats at a time.

use super::TILE;
use super::lanes::{Form, Kernel, Lanes};
use super::math;

/// `x = x / rms(x) * weight`, `rms(x) = sqrt(mean(x²) + eps)`.
///
/// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
///
/// # Panics
/// If the slices differ in length.
pub fn rms_norm(form: Form, x: &mut [f32], weight: &[f32], eps: f32) {
    assert_eq!(x.len(), weight.len(), "rows of different lengths");
    // SAFETY: the kernel reads and writes the slices, which are of one length.
    unsafe { form.run(RmsNorm { x, weight, eps }) }
}

struct RmsNorm<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n = self.x.len();
        let whole = n - n % TILE;
        let x = self.x.as_mut_ptr();
        let mut sum = L::splat(0.0);
        for i in (0..whole).step_by(TILE) {
            let lanes = L::load(x.add(i));
            sum = L::fma(lanes, lanes, sum);
        }
        let mut sum = math::sum::<L>(sum);
        for x in &self.x[whole..] {
            sum = x.mul_add(*x, sum);
        }
        let factor = 1.0 / (sum / n as f32 + self.eps).sqrt();
        for i in (0..whole).step_by(TILE) {
            let lanes = L::mul(L::load(x.add(i)), L::splat(factor));
            L::store(x.add(i), L::mul(lanes, L::load(self.weight.as_ptr().add(i))));
        }
        for i in whole..n {
            self.x[i] = self.x[i] * factor * self.weight[i];
        }
    }
}

/// `x = (x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) * weight + bias`.
///
/// Source: Ba, Kiros and Hinton, "Layer Normalization", 2016.
///
/// # Panics
/// If the slices differ in length.
pub fn layer_norm(form: Form, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    assert_eq!([x.len(); 2], [weight.len(), bias.len()], "rows of different lengths");
    // SAFETY: the kernel reads and writes the slices, which are of one length.
    unsafe { form.run(LayerNorm { x, weight, bias, eps }) }
}

struct LayerNorm<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n = self.x.len();
        let whole = n - n % TILE;
        let x = self.x.as_mut_ptr();
        let mut sum = L::splat(0.0);
        for i in (0..whole).step_by(TILE) {
            sum = L::add(L::load(x.add(i)), sum);
        }
        let mut sum = math::sum::<L>(sum);
        for x in &self.x[whole..] {
            sum += x;
        }
        let mean = sum / n as f32;
        let mut squares = L::splat(0.0);
        for i in (0..whole).step_by(TILE) {
            let lanes = L::sub(L::load(x.add(i)), L::splat(mean));
            L::store(x.add(i), lanes);
            squares = L::fma(lanes, lanes, squares);
        }
        let mut squares = math::sum::<L>(squares);
        for x in &mut self.x[whole..] {
            *x -= mean;
            squares = x.mul_add(*x, squares);
        }
        let factor = 1.0 / (squares / n as f32 + self.eps).sqrt();
        for i in (0..whole).step_by(TILE) {
            let lanes = L::mul(L::load(x.add(i)), L::splat(factor));
            let bias = L::load(self.bias.as_ptr().add(i));
            L::store(x.add(i), L::fma(lanes, L::load(self.weight.as_ptr().add(i)), bias));
        }
        for i in whole..n {
            self.x[i] = (self.x[i] * factor).mul_add(self.weight[i], self.bias[i]);
        }
    }
}

/// `gate = silu(gate) * up`, `silu(x) = x / (1 + e^-x)`.
///
/// Source: Shazeer, "GLU Variants Improve Transformer", 2020.
///
/// # Panics
/// If the slices differ in length.
pub fn swiglu(form: Form, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "rows of different lengths");
    // SAFETY: the kernel reads and writes the slices, which are of one length.
    unsafe { form.run(SwiGlu { gate, up }) }
}

struct SwiGlu<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for SwiGlu<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n = self.gate.len();
        let whole = n - n % TILE;
        for i in (0..whole).step_by(TILE) {
            let gate = self.gate.as_mut_ptr().add(i);
            L::store(gate, gated::<L>(L::load(gate), L::load(self.up.as_ptr().add(i))));
        }
        if whole < n {
            let (mut gate, mut up) = ([0.0; TILE], [0.0; TILE]);
            gate[..n - whole].copy_from_slice(&self.gate[whole..]);
            up[..n - whole].copy_from_slice(&self.up[whole..]);
            L::store(gate.as_mut_ptr(), gated::<L>(L::load(gate.as_ptr()), L::load(up.as_ptr())));
            self.gate[whole..].copy_from_slice(&gate[..n - whole]);
        }
    }
}

#[inline(always)]
unsafe fn gated<L: Lanes>(gate: L::F, up: L::F) -> L::F {
    let silu = L::div(gate, L::add(L::splat(1.0), math::exp::<L>(L::sub(L::splat(0.0), gate))));
    L::mul(silu, up)
}

/// Adds `x` to `to`.
///
/// # Panics
/// If the slices differ in length.
pub fn add(to: &mut [f32], x: &[f32]) {
    assert_eq!(to.len(), x.len(), "rows of different lengths");
    // One rounding each: every compiler gives the same bits, and vectors of its own.
    to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
}

/// Turns the pairs `(x[i], x[i + n])` of the first `2 n` components by the angles whose cosines and sines are given.
///
/// # Panics
/// If there are fewer than `2 n` components.
pub fn rotate_halves(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n = cos.len();
    let (first, rest) = x.split_at_mut(n);
    for (((a, b), cos), sin) in first.iter_mut().zip(&mut rest[..n]).zip(cos).zip(&sin[..n]) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// Turns the pairs `(x[2 i], x[2 i + 1])` by the angles whose cosines and sines are given.
///
/// # Panics
/// If there are fewer components than angles need.
pub fn rotate_neighbours(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = &mut x.as_chunks_mut::<2>().0[..cos.len()];
    for (([a, b], cos), sin) in pairs.iter_mut().zip(cos).zip(&sin[..cos.len()]) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, factor: f32) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 1000) as f32 / 500.0 * factor - factor).collect()
    }

    #[test]
    fn a_normed_row_has_the_weights_size_in_every_form() {
        for n in [3, 16, 50, 128] {
            let (x, weight) = (numbers(n, 4.0), numbers(n, 1.0));
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
            let exact = x.iter().zip(&weight).map(|(x, w)| f64::from(x * w) / (mean + 1e-5).sqrt());
            let exact: Vec<f64> = exact.collect();
            let mut reference = None;
            for form in Form::available().into_iter().rev() {
                let mut out = x.clone();
                rms_norm(form, &mut out, &weight, 1e-5);
                for (got, exact) in out.iter().zip(&exact) {
                    assert!((f64::from(*got) - exact).abs() < 1e-6 * exact.abs().max(1.0), "{form:?} {n}");
                }
                assert!(*reference.get_or_insert_with(|| out.clone()) == out, "{form:?} {n}");
            }
        }
    }

    #[test]
    fn a_layer_normed_row_is_exact_and_the_same_in_every_form() {
        for n in [3, 16, 50, 128] {
            let (x, weight, bias) = (numbers(n, 4.0), numbers(n, 1.0), numbers(n, 0.5));
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n as f64;
            let normed = |i: usize| (f64::from(x[i]) - mean) / (variance + 1e-6).sqrt();
            let mut reference = None;
            for form in Form::available().into_iter().rev() {
                let mut out = x.clone();
                layer_norm(form, &mut out, &weight, &bias, 1e-6);
                for (i, got) in out.iter().enumerate() {
                    let exact = normed(i) * f64::from(weight[i]) + f64::from(bias[i]);
                    assert!((f64::from(*got) - exact).abs() < 2e-6, "{form:?} {n}: {got} {exact}");
                }
                assert!(*reference.get_or_insert_with(|| out.clone()) == out, "{form:?} {n}");
            }
        }
    }

    #[test]
    fn a_gated_row_is_exact_and_the_same_in_every_form() {
        for n in [5, 16, 64] {
            for size in [1.0, 20.0, 200.0] {
                let (gate, up) = (numbers(n, size), numbers(n, 2.0));
                let mut reference = None;
                for form in Form::available().into_iter().rev() {
                    let mut out = gate.clone();
                    swiglu(form, &mut out, &up);
                    for i in 0..n {
                        let g = f64::from(gate[i]);
                        let exact = g / (1.0 + (-g).exp()) * f64::from(up[i]);
                        let error = (f64::from(out[i]) - exact).abs();
                        assert!(error < 1e-6 * exact.abs() + 1e-30, "{form:?} {g} {exact} {}", out[i]);
                    }
                    assert!(*reference.get_or_insert_with(|| out.clone()) == out, "{form:?} {n}");
                }
            }
        }
    }

    #[test]
    fn pairs_turn_by_their_angle() {
        let mut x = [1.0, 0.0, 0.0, 2.0, 9.0];
        rotate_halves(&mut x, &[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(x, [0.0, 0.0, 1.0, 2.0, 9.0]);

        let mut x = [1.0, 0.0, 3.0, 2.0, 9.0];
        rotate_neighbours(&mut x, &[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(x, [0.0, 1.0, 3.0, 2.0, 9.0]);
    }
}
