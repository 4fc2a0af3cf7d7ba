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

/// `x Φ(x) = x (1 + erf(x / √2)) / 2`, error below 3e-7 of the larger of x and 1. Below -5.3 it is that of -5.3: small, but
/// not zero.
///
/// `Φ(x) = 1 / 2 + x R(x²)`; R is a polynomial of degree 14, fitted for the least largest error of `x R(x²)` where
/// `|x| < 5.3`, beyond which nothing of float32's digits is left. It has no division and no exponential.
///
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(super) unsafe fn gelu<L: Lanes>(x: L::F) -> L::F {
    // In this order a NaN passes.
    let above = L::max(L::splat(-GELU_END), x);
    let x = L::min(L::splat(GELU_END), above);
    // -1 at x = 0 and 1 at the end: coefficients are small there.
    let t = L::fma(L::mul(x, x), L::splat(2.0 / (GELU_END * GELU_END)), L::splat(-1.0));
    let mut p = L::splat(GELU[GELU.len() - 1]);
    for i in (0..GELU.len() - 1).rev() {
        p = L::fma(p, t, L::splat(GELU[i]));
    }
    L::mul(above, L::fma(x, p, L::splat(0.5)))
}

const GELU_END: f32 = 5.3;
/// `(Φ(x) - 1 / 2) / x` as a polynomial of `2 x² / 5.3² - 1`.
const GELU: [f32; 15] = [
    1.333_925_6e-1,
    -6.651_851e-2,
    4.926_416_3e-2,
    -3.958_893e-2,
    3.207_952e-2,
    -2.529_830_1e-2,
    1.892_583_4e-2,
    -1.318_547_5e-2,
    8.828_174e-3,
    -5.849_548_6e-3,
    3.134_922_4e-3,
    -1.095_949_2e-3,
    7.320_848_5e-4,
    -7.645_653e-4,
    2.836_283_8e-4,
];

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
