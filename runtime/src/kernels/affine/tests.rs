use super::*;
use crate::config::ComputeMode;
use crate::kernels::{BLOCK_ROWS, Float, GroupOf, padded_rows, prepared_bytes};

/// Numbers that look random and are the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// In -1..1, a bfloat16.
    fn float(&mut self) -> f32 {
        half::bf16::from_f32((self.next() % 20_000) as f32 / 10_000.0 - 1.0).to_f32()
    }
}

struct Case {
    layout: AffineLayout,
    codes: Vec<u8>,
    scales: Vec<f32>,
    biases: Vec<f32>,
    bytes: Vec<u8>,
    x: Vec<f32>,
}

const TILES: usize = 2;
const ROWS: usize = 15;

impl Case {
    fn new(bits: usize, group: usize, scales: Float) -> Self {
        let layout = AffineLayout { bits, group, scales, k: 256 };
        let groups = layout.k / group;
        let mut numbers = Numbers(bits as u64 * 1000 + group as u64);
        let mut floats = |n: usize, factor: f32| (0..n).map(|_| numbers.float() * factor).collect::<Vec<_>>();
        let (scales, biases) = (floats(TILES * TILE * groups, 0.125), floats(TILES * TILE * groups, 1.0));
        let x = floats(ROWS * layout.k, 1.0);
        let mask = ((1_u32 << bits) - 1) as u8;
        let codes: Vec<u8> = (0..TILES * TILE * layout.k).map(|_| numbers.next() as u8 & mask).collect();
        let mut bytes = vec![0; TILES * layout.tile_bytes()];
        for tile in 0..TILES {
            let rows = |per: usize| tile * TILE * per..(tile + 1) * TILE * per;
            let place = &mut bytes[tile * layout.tile_bytes()..][..layout.tile_bytes()];
            layout.pack(&codes[rows(layout.k)], &scales[rows(groups)], &biases[rows(groups)], place);
        }
        Self { layout, codes, scales, biases, bytes, x }
    }

    /// The product, with `rows` rows of activations at a time.
    fn product(&self, form: Form, mode: ComputeMode, rows: usize) -> Vec<f32> {
        let (k, groups) = (self.layout.k, self.layout.k / self.layout.group);
        let all = self.x.len() / k;
        let encoding = Encoding::of(form, mode, self.layout.bits);
        let padded = padded_rows(encoding, k, all);
        let mut quads = vec![0; padded * prepared_bytes(encoding, k)];
        let mut of_groups = vec![GroupOf::default(); padded * groups];
        let mut out = vec![0.0; all * TILES * TILE];
        let x = Activations {
            encoding,
            k,
            group: self.layout.group,
            rows: all,
            quads: quads.as_mut_ptr(),
            groups: of_groups.as_mut_ptr(),
        };
        for row in 0..all {
            // SAFETY: all of them are this function's own, and long enough.
            unsafe { x.write(form, row, self.x[row * k..].as_ptr()) };
        }
        for first in (0..all).step_by(rows) {
            let product = Product {
                weights: AffineTiles { layout: self.layout, bytes: &self.bytes },
                tiles: 0..TILES,
                x,
                rows: first..all.min(first + rows),
                out: out.as_mut_ptr(),
                stride: TILES * TILE,
            };
            // SAFETY: all of them are this function's own, and long enough.
            unsafe { product.run(form) };
        }
        out
    }

    fn exact(&self) -> Vec<f64> {
        let (k, group) = (self.layout.k, self.layout.group);
        let element = |row: usize, n: usize, i: usize| {
            let at = n * (k / group) + i / group;
            let weight = f64::from(self.scales[at]) * f64::from(self.codes[n * k + i]) + f64::from(self.biases[at]);
            weight * f64::from(self.x[row * k + i])
        };
        let places = (0..ROWS).flat_map(|row| (0..TILES * TILE).map(move |n| (row, n)));
        places.map(|(row, n)| (0..k).map(|i| element(row, n, i)).sum()).collect()
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let kinds = [Float::Bf16, Float::F16, Float::F32];
    let shapes = [2, 3, 4, 5, 6, 8].into_iter().flat_map(|bits| [32, 64, 128].map(|group| (bits, group)));
    shapes.flat_map(move |(bits, group)| kinds.map(|kind| Case::new(bits, group, kind)))
}

fn bit_patterns(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn products_are_as_exact_as_their_mode() {
    for case in cases() {
        let exact = case.exact();
        let size = exact.iter().map(|value| value * value).sum::<f64>();
        for (mode, limit) in [(ComputeMode::Int8, 1e-2), (ComputeMode::Int16, 1e-4), (ComputeMode::F32, 1e-6)] {
            let got = case.product(Form::PORTABLE, mode, ROWS);
            let error = exact.iter().zip(&got).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum::<f64>();
            let relative = (error / size).sqrt();
            assert!(relative < limit, "{:?} {mode:?}: {relative}", case.layout);
        }
    }
}

#[test]
fn all_forms_give_the_same_bits_for_any_number_of_rows() {
    for case in cases() {
        for mode in [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32] {
            let portable = bit_patterns(&case.product(Form::PORTABLE, mode, ROWS));
            for form in Form::available() {
                for rows in [1, 2, 3, 5, ROWS] {
                    let got = bit_patterns(&case.product(form, mode, rows));
                    assert!(got == portable, "{:?} {mode:?} {form:?} {rows} rows", case.layout);
                }
            }
        }
    }
}

#[test]
fn rows_are_the_same_in_every_block() {
    const MANY: usize = 2 * BLOCK_ROWS + 2;
    for bits in [4, 8] {
        let mut case = Case::new(bits, 64, Float::Bf16);
        let few = case.x.clone();
        for mode in [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32] {
            for form in Form::available() {
                case.x.clone_from(&few);
                let alone = bit_patterns(&case.product(form, mode, 1));
                case.x = few.iter().copied().cycle().take(MANY * case.layout.k).collect();
                let got = bit_patterns(&case.product(form, mode, MANY));
                let expected = alone.iter().cycle().take(MANY * TILES * TILE);
                assert!(got.iter().eq(expected), "{bits} bits {mode:?} {form:?}");
            }
        }
    }
}

#[test]
fn the_largest_products_do_not_overflow() {
    for bits in [2, 3, 4, 5, 6, 8] {
        for sign in [1.0, -1.0] {
            let mut case = Case::new(bits, 128, Float::F32);
            let codes = vec![((1_u32 << bits) - 1) as u8; TILE * case.layout.k];
            let groups = case.layout.k / case.layout.group;
            let (scales, biases) = (vec![1.0; TILE * groups], vec![0.0; TILE * groups]);
            for tile in case.bytes.chunks_exact_mut(case.layout.tile_bytes()) {
                case.layout.pack(&codes, &scales, &biases, tile);
            }
            case.x.fill(sign);
            let exact = sign * (codes[0] as f32) * case.layout.k as f32;
            for mode in [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32] {
                for form in Form::available() {
                    let out = case.product(form, mode, ROWS);
                    let close = out.iter().all(|value| (value / exact - 1.0).abs() < 1e-6);
                    assert!(close, "{bits} bits {mode:?} {form:?}: {} for {exact}", out[0]);
                }
            }
        }
    }
}

#[test]
fn a_row_comes_out_of_its_tile_as_it_went_in() {
    for case in cases() {
        let (k, group) = (case.layout.k, case.layout.group);
        for n in [0, 7, TILE, TILES * TILE - 1] {
            let tile = &case.bytes[n / TILE * case.layout.tile_bytes()..][..case.layout.tile_bytes()];
            let mut row = vec![0.0; k];
            case.layout.unpack_row(tile, n % TILE, &mut row);
            for (i, got) in row.iter().enumerate() {
                let at = n * (k / group) + i / group;
                let exact = case.scales[at].mul_add(f32::from(case.codes[n * k + i]), case.biases[at]);
                assert_eq!(got.to_bits(), exact.to_bits(), "{:?} row {n} input {i}", case.layout);
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_its_row_only() {
    let mut case = Case::new(4, 64, Float::Bf16);
    for (row, bad) in [(1, f32::NAN), (3, f32::INFINITY), (4, f32::NEG_INFINITY)] {
        case.x[row * case.layout.k + 70] = bad;
    }
    for form in Form::available() {
        for mode in [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32] {
            let out = case.product(form, mode, ROWS);
            for (row, values) in out.chunks(TILES * TILE).enumerate() {
                let finite = values.iter().all(|value| value.is_finite());
                assert_eq!(finite, ![1, 3, 4].contains(&row), "{form:?} {mode:?} row {row}");
            }
        }
    }
}
