//! Numbers for people.

/// Bytes in the largest unit of 1024 that leaves at least one: `1.5 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What rounds to 1024.0 is one of the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count in thousands, millions or billions: `4.0 B`.
pub(super) fn count(n: u64) -> String {
    let scaled = |by: f64, unit: &str| format!("{:.1} {unit}", n as f64 / by);
    match n {
        0..=9_999 => n.to_string(),
        10_000..=999_949 => scaled(1e3, "K"),
        999_950..=999_949_999 => scaled(1e6, "M"),
        _ => scaled(1e9, "B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_counts_take_the_unit_that_fits() {
        assert_eq!([0, 1023, 1024, 1_610_612_736].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!([97, 999_950, 4_022_468_096].map(count), ["97", "1.0 M", "4.0 B"]);
    }
}
