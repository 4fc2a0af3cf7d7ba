//! Functions of sixteen lanes, and sums over lanes in one fixed order.

use super::lanes::Lanes;

/// `e` to the power of each lane, relative error below 3e-7. Below -87 it is that of -87: small, but not zero.
///
/// Source: Cephes `expf` (reduction by multiples of ln 2, polynomial of degree 5).
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn exp<L: Lanes>(x: L::F) -> L::F {
    // In this order a NaN passes.
    let x = L::max(L::splat(-87.0), L::min(L::splat(88.0), x));
    let n = L::to_i32(L::mul(x, L::splat(std::f32::consts::LOG2_E)));
    let whole = L::to_f32(n);
    // ln 2 in two parts: the first one has few bits, so that its product is exact.
    let r = L::fma(whole, L::splat(-0.693_359_4), x);
    let r = L::fma(whole, L::splat(2.121_944_4e-4), r);
    let mut p = L::splat(1.987_569_1e-4);
    p = L::fma(p, r, L::splat(1.398_199_9e-3));
    p = L::fma(p, r, L::splat(8.333_452e-3));
    p = L::fma(p, r, L::splat(4.166_579_6e-2));
    p = L::fma(p, r, L::splat(1.666_666_5e-1));
    p = L::fma(p, r, L::splat(5e-1));
    let p = L::add(L::fma(L::mul(r, r), p, r), L::splat(1.0));
    L::mul(p, L::power_of_two(n))
}

/// `x / (1 + e^-x)`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn silu<L: Lanes>(x: L::F) -> L::F {
    L::div(x, L::add(L::splat(1.0), exp::<L>(L::sub(L::splat(0.0), x))))
}

/// `x Φ(x) = x (1 + erf(x / √2)) / 2`, error below 4e-7 of the larger of x and 1. Below -13 it is that of -13: small, but
/// not zero.
///
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016; erf from Abramowitz and Stegun, "Handbook of
/// Mathematical Functions", 1964, 7.1.26 (absolute error below 1.5e-7).
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn gelu<L: Lanes>(x: L::F) -> L::F {
    let zero = L::splat(0.0);
    // In this order a NaN passes. The bound keeps infinity from meeting a tail of zero.
    let size = L::min(L::splat(13.0), L::max(L::sub(zero, x), x));
    let t = L::div(L::splat(1.0), L::fma(size, L::splat(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), L::splat(1.0)));
    let mut p = L::splat(0.5 * 1.061_405_4);
    p = L::fma(p, t, L::splat(0.5 * -1.453_152));
    p = L::fma(p, t, L::splat(0.5 * 1.421_413_8));
    p = L::fma(p, t, L::splat(0.5 * -0.284_496_72));
    p = L::fma(p, t, L::splat(0.5 * 0.254_829_6));
    // Φ(-|x|), without which x > 0 would be whole and x < 0 nothing.
    let tail = L::mul(L::mul(p, t), exp::<L>(L::mul(L::mul(size, size), L::splat(-0.5))));
    L::sub(L::max(zero, x), L::mul(size, tail))
}

/// `x (1 + tanh(√(2 / π) (x + 0.044715 x³))) / 2`, error below 2e-7 of the larger of x and 1. Below -10 it is
/// that of -10: small, but not zero.
///
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016. Half of `1 + tanh(y)` is `1 / (1 + e^-2y)`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn gelu_tanh<L: Lanes>(x: L::F) -> L::F {
    // In this order a NaN passes. The bound keeps the exponential below its own.
    let x = L::max(L::splat(-10.0), x);
    // -2 √(2 / π), and 0.044715 times that.
    let factor = L::fma(L::mul(x, x), L::splat(-0.071_354_814), L::splat(-1.595_769));
    L::div(x, L::add(L::splat(1.0), exp::<L>(L::mul(x, factor))))
}

/// The sum of all lanes: halves onto each other until one is left.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn sum<L: Lanes>(lanes: L::F) -> f32 {
    let mut v = [0.0; 16];
    L::store(v.as_mut_ptr(), lanes);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] += v[i + half];
        }
    }
    v[0]
}

/// The largest lane.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn largest<L: Lanes>(lanes: L::F) -> f32 {
    let mut v = [0.0f32; 16];
    L::store(v.as_mut_ptr(), lanes);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] = if v[i] > v[i + half] { v[i] } else { v[i + half] };
        }
    }
    v[0]
}

/// The sum of all lanes.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn sum_i32<L: Lanes>(lanes: L::I) -> i32 {
    let mut v = [0; 16];
    L::store_i32(v.as_mut_ptr(), lanes);
    v.iter().sum()
}

/// The largest lane.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn largest_i32<L: Lanes>(lanes: L::I) -> i32 {
    let mut v = [0; 16];
    L::store_i32(v.as_mut_ptr(), lanes);
    v.into_iter().fold(i32::MIN, i32::max)
}
