use lmx_runtime::bench::Spread;
use std::fmt;

/// A table in Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What stands above it.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        Self { title: title.into(), columns: columns.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, columns, rows } = self;
        let widths: Vec<usize> = (0..columns.len())
            .map(|i| {
                let cells = rows.iter().filter_map(|row| row.get(i)).chain([&columns[i]]);
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| {
            for (cell, width) in cells.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")
        };
        writeln!(f, "### {title}\n")?;
        line(f, columns)?;
        line(f, &widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>())?;
        rows.iter().try_for_each(|row| line(f, row))
    }
}

/// A figure with three digits that count.
pub(super) fn figure(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let places = (2 - digits).clamp(0, 4) as usize;
    format!("{value:.places$}")
}

/// A median, and the least and the most beside it.
pub(super) fn spread(spread: &Spread) -> String {
    format!("{} ({} to {})", figure(spread.median), figure(spread.least), figure(spread.most))
}

/// As [`spread`]; a dash where there is none.
pub(super) fn maybe(of: Option<&Spread>) -> String {
    of.map_or_else(|| "-".to_owned(), spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_no_false_ones() {
        assert_eq!(
            [0.0, 0.01234, 1.0, 12.345, 456.7, 98765.4].map(figure),
            ["0.00", "0.0123", "1.00", "12.3", "457", "98765"]
        );
    }

    #[test]
    fn a_table_is_markdown_in_columns() {
        let mut table = Table::new("Prompts", &["tokens", "tokens/s"]);
        table.row(["512".to_owned(), spread(&Spread { median: 210.0, least: 190.0, most: 220.0 })]);

        assert_eq!(
            table.to_string(),
            "### Prompts\n\n| tokens | tokens/s         |\n| ------ | ---------------- |\n| 512    | 210 (190 to 220) |\n"
        );
    }
}
