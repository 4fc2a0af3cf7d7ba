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
        let mut sum = L::sum(sum);
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
        let mut sum = L::sum(sum);
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
        let mut squares = L::sum(squares);
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
    unsafe { form.run(Pairs { to: gate, with: up, of: Silu }) }
}

/// `x = x * sigmoid(gate)`, `sigmoid(x) = 1 / (1 + e^-x)`.
///
/// # Panics
/// If the slices differ in length.
pub fn gate_by_sigmoid(form: Form, x: &mut [f32], gate: &[f32]) {
    assert_eq!(x.len(), gate.len(), "rows of different lengths");
    // SAFETY: as above.
    unsafe { form.run(Pairs { to: x, with: gate, of: Sigmoid }) }
}

/// `x = gelu(x)`, `gelu(x) = x (1 + erf(x / √2)) / 2`.
///
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
pub fn gelu(form: Form, x: &mut [f32]) {
    // SAFETY: the kernel reads and writes the slice.
    unsafe { form.run(Each { x, of: Gelu }) }
}

/// `x = gelu(x + bias)`, as [`add`] and [`gelu`] compute it.
///
/// # Panics
/// If the slices differ in length.
pub fn bias_gelu(form: Form, x: &mut [f32], bias: &[f32]) {
    assert_eq!(x.len(), bias.len(), "rows of different lengths");
    // SAFETY: the kernel reads and writes the slices, which are of one length.
    unsafe { form.run(Pairs { to: x, with: bias, of: Gelu }) }
}

/// `x = gelu(x)` with a hyperbolic tangent instead of erf: `gelu(x) = x (1 + tanh(√(2 / π) (x + 0.044715 x³))) / 2`.
///
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
pub fn gelu_tanh(form: Form, x: &mut [f32]) {
    // SAFETY: the kernel reads and writes the slice.
    unsafe { form.run(Each { x, of: GeluTanh }) }
}

/// `gate = gelu(gate) * up`, with the gelu of [`gelu_tanh`].
///
/// Source: Shazeer, "GLU Variants Improve Transformer", 2020.
///
/// # Panics
/// If the slices differ in length.
pub fn gelu_tanh_gated(form: Form, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "rows of different lengths");
    // SAFETY: the kernel reads and writes the slices, which are of one length.
    unsafe { form.run(Pairs { to: gate, with: up, of: GeluTanh }) }
}

/// Adds `x`, multiplied by `factor`, to `to`.
///
/// # Panics
/// If the slices differ in length.
pub fn add_scaled(form: Form, to: &mut [f32], x: &[f32], factor: f32) {
    assert_eq!(to.len(), x.len(), "rows of different lengths");
    // SAFETY: as above.
    unsafe { form.run(Pairs { to, with: x, of: Scaled(factor) }) }
}

/// What becomes of each element of one row and its partner in another.
trait OfTwo: Copy {
    unsafe fn of<L: Lanes>(self, to: L::F, with: L::F) -> L::F;
}

/// What becomes of each element of a row.
trait OfOne: Copy {
    unsafe fn of<L: Lanes>(self, x: L::F) -> L::F;
}

#[derive(Clone, Copy)]
struct Gelu;
#[derive(Clone, Copy)]
struct GeluTanh;
#[derive(Clone, Copy)]
struct Silu;
#[derive(Clone, Copy)]
struct Sigmoid;
#[derive(Clone, Copy)]
struct Scaled(f32);

impl OfTwo for Silu {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, gate: L::F, up: L::F) -> L::F {
        L::mul(math::silu::<L>(gate), up)
    }
}

impl OfTwo for Sigmoid {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, x: L::F, gate: L::F) -> L::F {
        L::div(x, L::add(L::splat(1.0), math::exp::<L>(L::sub(L::splat(0.0), gate))))
    }
}

impl OfTwo for Scaled {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, to: L::F, x: L::F) -> L::F {
        L::fma(x, L::splat(self.0), to)
    }
}

impl OfOne for Gelu {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, x: L::F) -> L::F {
        math::gelu::<L>(x)
    }
}

impl OfTwo for Gelu {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, x: L::F, bias: L::F) -> L::F {
        math::gelu::<L>(L::add(x, bias))
    }
}

impl OfOne for GeluTanh {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, x: L::F) -> L::F {
        math::gelu_tanh::<L>(x)
    }
}

impl OfTwo for GeluTanh {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, gate: L::F, up: L::F) -> L::F {
        L::mul(math::gelu_tanh::<L>(gate), up)
    }
}

struct Each<'a, O> {
    x: &'a mut [f32],
    of: O,
}

impl<O: OfOne> Kernel for Each<'_, O> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n = self.x.len();
        let whole = n - n % TILE;
        for i in (0..whole).step_by(TILE) {
            let x = self.x.as_mut_ptr().add(i);
            L::store(x, self.of.of::<L>(L::load(x)));
        }
        if whole < n {
            let mut x = [0.0; TILE];
            x[..n - whole].copy_from_slice(&self.x[whole..]);
            L::store(x.as_mut_ptr(), self.of.of::<L>(L::load(x.as_ptr())));
            self.x[whole..].copy_from_slice(&x[..n - whole]);
        }
    }
}

struct Pairs<'a, O> {
    to: &'a mut [f32],
    with: &'a [f32],
    of: O,
}

impl<O: OfTwo> Kernel for Pairs<'_, O> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n = self.to.len();
        let whole = n - n % TILE;
        for i in (0..whole).step_by(TILE) {
            let to = self.to.as_mut_ptr().add(i);
            L::store(to, self.of.of::<L>(L::load(to), L::load(self.with.as_ptr().add(i))));
        }
        if whole < n {
            let (mut to, mut with) = ([0.0; TILE], [0.0; TILE]);
            to[..n - whole].copy_from_slice(&self.to[whole..]);
            with[..n - whole].copy_from_slice(&self.with[whole..]);
            L::store(to.as_mut_ptr(), self.of.of::<L>(L::load(to.as_ptr()), L::load(with.as_ptr())));
            self.to[whole..].copy_from_slice(&to[..n - whole]);
        }
    }
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

/// `x = max(x, 0)`; a NaN stays.
pub fn relu(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
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
    fn rows_meet_element_by_element_the_same_way_in_every_form() {
        for n in [5, 16, 40] {
            let (x, y) = (numbers(n, 3.0), numbers(n, 5.0).into_iter().rev().collect::<Vec<_>>());
            for form in Form::available() {
                let (mut gated, mut added) = (x.clone(), x.clone());
                gate_by_sigmoid(form, &mut gated, &y);
                add_scaled(form, &mut added, &y, 0.3);
                for i in 0..n {
                    let exact = f64::from(x[i]) / (1.0 + f64::from(-y[i]).exp());
                    assert!((f64::from(gated[i]) - exact).abs() < 1e-6, "{form:?} {i}");
                    assert_eq!(added[i].to_bits(), y[i].mul_add(0.3, x[i]).to_bits(), "{form:?} {i}");
                }
                let (mut portable, mut other) = (x.clone(), x.clone());
                gate_by_sigmoid(Form::PORTABLE, &mut portable, &y);
                gate_by_sigmoid(form, &mut other, &y);
                assert_eq!(portable, other, "{form:?}");
            }
        }
    }

    /// Numbers close to each other where the functions bend, some far away, and both zeros and infinities.
    fn far_and_dense() -> Vec<f32> {
        let dense = (-60_000..=60_000).map(|i| i as f32 / 4000.0);
        let sizes = (-126..128).map(|power| 2.0f32.powi(power));
        let far = sizes.flat_map(|size| [size, -size, 1.37 * size, -1.37 * size]);
        dense.chain(far).chain([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN]).collect()
    }

    /// Φ(x), from the series of Marsaglia, "Evaluating the Normal Distribution", 2004; far out the continued fraction.
    fn normal_distribution(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if x.abs() > 5.0 {
            let fraction = (1..200).rev().fold(x.abs(), |below, i| x.abs() + f64::from(i) / below);
            let tail = density / fraction;
            return if x < 0.0 { tail } else { 1.0 - tail };
        }
        let (mut sum, mut term) = (x, x);
        for i in 1..200 {
            term *= x * x / f64::from(2 * i + 1);
            sum += term;
        }
        0.5 + density * sum
    }

    /// Compares `of` in every form with the exact function, within `error` of the larger of x and 1.
    fn compare(of: impl Fn(Form, &mut [f32]), exact: impl Fn(f64) -> f64, error: f64) {
        let x = far_and_dense();
        let mut reference = None;
        for form in Form::available().into_iter().rev() {
            let mut out = x.clone();
            of(form, &mut out);
            let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
            for (x, got) in x.iter().zip(&out) {
                let exact = if *x == f32::NEG_INFINITY { 0.0 } else { exact(f64::from(*x)) };
                let close = (f64::from(*got) - exact).abs() <= error * exact.abs().max(1.0);
                assert!(close || f64::from(*got) == exact, "{form:?} of {x}: {got} {exact}");
            }
            assert!(*reference.get_or_insert_with(|| bits.clone()) == bits, "{form:?}");
            let mut nan = [f32::NAN];
            of(form, &mut nan);
            assert!(nan[0].is_nan(), "{form:?}");
        }
    }

    fn exact_gelu_tanh(x: f64) -> f64 {
        let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        // Half of 1 + tanh(y), without cancellation.
        x / (1.0 + (-2.0 * y).exp())
    }

    #[test]
    fn gelu_is_exact_and_the_same_in_every_form() {
        compare(gelu, |x| x * normal_distribution(x), 4e-7);
        compare(gelu_tanh, exact_gelu_tanh, 2e-7);
        compare(|_, x| relu(x), |x| x.max(0.0), 0.0);
    }

    #[test]
    fn gelu_with_a_bias_or_a_gate_is_that_of_its_parts() {
        for n in [5, 16, 40] {
            let (x, y) = (numbers(n, 3.0), numbers(n, 5.0).into_iter().rev().collect::<Vec<_>>());
            for form in Form::available() {
                let (mut fused, mut apart) = (x.clone(), x.clone());
                bias_gelu(form, &mut fused, &y);
                add(&mut apart, &y);
                gelu(form, &mut apart);
                assert_eq!(fused, apart, "{form:?}");

                let (mut gated, mut open) = (x.clone(), x.clone());
                gelu_tanh_gated(form, &mut gated, &y);
                gelu_tanh(form, &mut open);
                open.iter_mut().zip(&y).for_each(|(open, up)| *open *= up);
                assert_eq!(gated, open, "{form:?}");
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
