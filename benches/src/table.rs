//! Tables: plain text for a terminal, Markdown for a document.

use std::fmt::Write;

/// A table under a heading. The first column is text, the others are figures, to the right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What it is about.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows; one that is short ends with empty cells.
    pub rows: Vec<Vec<String>>,
    /// Sentences below it.
    pub notes: Vec<String>,
}

impl Table {
    /// As plain text.
    pub fn text(&self) -> String {
        let mut out = format!("\n{}\n\n", self.title);
        let widths = self.widths();
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            let cells = padded(row, &widths).join("  ");
            let _ = writeln!(out, "  {}", cells.trim_end());
        }
        for note in &self.notes {
            let _ = write!(out, "\n  {note}");
        }
        out
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("\n**{}**\n\n", self.title);
        let widths = self.widths();
        let rule = widths.iter().enumerate().map(|(at, width)| match at {
            0 => format!("{:-<width$}", ""),
            _ => format!("{:->width$}:", "", width = width - 1),
        });
        let rule = rule.collect();
        let head = [padded(&self.columns, &widths), rule];
        let rows = self.rows.iter().map(|row| padded(row, &widths));
        for row in head.into_iter().chain(rows) {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        for note in &self.notes {
            let _ = write!(out, "\n{note}\n");
        }
        out
    }

    /// Of each column; at least 3, as Markdown wants.
    fn widths(&self) -> Vec<usize> {
        let cell = |row: &Vec<String>, at| row.get(at).map_or(0, String::len);
        let rows = || std::iter::once(&self.columns).chain(&self.rows);
        let width = |at| rows().map(|row| cell(row, at)).max().unwrap_or(0).max(3);
        (0..self.columns.len()).map(width).collect()
    }
}

fn padded(row: &[String], widths: &[usize]) -> Vec<String> {
    let cell = |(at, width): (usize, &usize)| {
        let text = row.get(at).map_or("", String::as_str);
        match at {
            0 => format!("{text:<width$}"),
            _ => format!("{text:>width$}"),
        }
    };
    widths.iter().enumerate().map(cell).collect()
}

/// A figure with three digits, or a dash.
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value < 9.995 => format!("{value:.2}"),
        Some(value) if value < 99.95 => format!("{value:.1}"),
        Some(value) => grouped(&format!("{value:.0}")),
    }
}

/// Digits in groups of three.
fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn table() -> Table {
        Table {
            title: "submit, 1 waiting".into(),
            columns: ["store", "messages/s", "p"].map(String::from).into(),
            rows: vec![
                vec![
                    "redb".into(),
                    figure(Some(1_234_567.8)),
                    figure(Some(0.456)),
                ],
                vec!["bare-log".into(), figure(None)],
            ],
            notes: vec!["left out: rocksdb".into()],
        }
    }

    fn check(text: &str, expect: &Expect) {
        expect.assert_eq(text);
    }

    #[test]
    fn plain_text_is_aligned() {
        check(
            &table().text(),
            &expect![[r"

            submit, 1 waiting

              store     messages/s     p
              redb       1,234,568  0.46
              bare-log           -

              left out: rocksdb"]],
        );
    }

    #[test]
    fn markdown_is_aligned_too() {
        check(
            &table().markdown(),
            &expect![[r"

            **submit, 1 waiting**

            | store    | messages/s |    p |
            | -------- | ---------: | ---: |
            | redb     |  1,234,568 | 0.46 |
            | bare-log |          - |      |

            left out: rocksdb
        "]],
        );
    }

    #[test]
    fn figures_have_three_digits() {
        let figures = [0.0, 1.0, 9.999, 12.34, 99.96, 123.4, 1e6].map(|f| figure(Some(f)));
        check(
            &figures.join(" "),
            &expect!["0.00 1.00 10.0 12.3 100 123 1,000,000"],
        );
    }
}
