//! Random numbers that depend on the place of a token and on nothing else.

/// The random number for one token: uniform in `[0, 1)`, 53 bits.
///
/// A pure function of its arguments, so that a sequence draws the same numbers in any batch and after a preemption:
/// `seed` is the generator's key, position and choice are its counter.
pub fn uniform(seed: u64, choice: u32, position: usize) -> f64 {
    let position = position as u64;
    let [high, low, ..] =
        philox4x32_10([position as u32, (position >> 32) as u32, choice, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    bits as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// The block function of Philox4x32-10: four random words for a counter and a key.
///
/// Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.
fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_vectors() {
        // Random123, tests/kat_vectors, philox4x32 10.
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let base = uniform(1, 0, 5);
        assert!((0.0..1.0).contains(&base));
        for other in [uniform(2, 0, 5), uniform(1 << 32 | 1, 0, 5), uniform(1, 1, 5), uniform(1, 0, 6)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_mean_and_the_spread_are_those_of_a_uniform_number() {
        let numbers: Vec<f64> = (0..20_000).map(|position| uniform(7, 0, position)).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        // Three standard errors of the mean of 20 000 numbers (1 / sqrt(12 n)) and about that of their variance.
        assert!((mean - 0.5).abs() < 3.0 * (1.0_f64 / (12.0 * 20_000.0)).sqrt(), "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 0.0016, "{variance}");
    }
}
