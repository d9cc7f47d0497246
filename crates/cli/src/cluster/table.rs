//! Tables for people, and ages in them.

use k8s_openapi::jiff::Timestamp;

/// What stands where nothing is known.
pub(super) const UNKNOWN: &str = "-";
/// Between two columns.
const GAP: usize = 3;

/// Lines of cells, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows);
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |line: &[String; N]| {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = width + GAP));
        cells.collect::<String>().trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A cell that may be unknown.
pub(super) fn cell(text: Option<impl ToString>) -> String {
    text.map_or_else(|| UNKNOWN.to_owned(), |text| text.to_string())
}

/// How long ago, in its largest unit, as kubectl tells ages roughly.
pub(super) fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    /// Below so many of a unit, the next smaller one says more.
    const FEW: i64 = 2;
    let Some(since) = since else {
        return UNKNOWN.to_owned();
    };
    let seconds = (now.as_second() - since.as_second()).max(0);
    for (unit, letter) in [(86_400, 'd'), (3_600, 'h'), (60, 'm')] {
        if seconds >= FEW * unit {
            return format!("{}{letter}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let text = table(
            ["POD", "AGE"],
            [
                ["a-long-name".to_owned(), "1s".to_owned()],
                ["b".to_owned(), String::new()],
            ],
        );
        assert_eq!(text, "POD           AGE\na-long-name   1s\nb");
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (seconds, expected) in [
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (7_300, "2h"),
            (200_000, "2d"),
        ] {
            let since = Timestamp::from_second(1_000_000 - seconds).unwrap();
            assert_eq!(age(Some(since), now), expected);
        }
        assert_eq!(age(None, now), "-");
    }
}
