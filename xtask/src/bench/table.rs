//! The result as a table.

use std::fmt;

use super::{
    history::Report,
    row::{Row, Unit, Verdict},
    samples::Samples,
};

/// A report, for people.
pub(super) struct Table<'report>(pub(super) &'report Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![["what", "ours", "runc", "goal", "", "samples: range"].map(str::to_owned)];
        lines.extend(self.0.rows.iter().map(line));
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| {
                lines
                    .iter()
                    .map(|line| line[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for line in lines {
            let [what, ours, runc, goal, verdict, samples] = line;
            writeln!(
                formatter,
                "{what:<0$}  {ours:>1$}  {runc:>2$}  {goal:<3$}  {verdict:<4$}  {samples}",
                widths[0], widths[1], widths[2], widths[3], widths[4],
            )?;
        }
        Ok(())
    }
}

fn line(row: &Row) -> [String; 6] {
    let median = |samples: &Samples| {
        samples
            .median()
            .map_or_else(|| "?".to_owned(), |value| row.unit.show(value))
    };
    let verdict = match row.verdict() {
        Verdict::Met => "met",
        Verdict::Misses => "MISSES",
        Verdict::NoGoal => "",
    };
    [
        row.what.clone(),
        median(&row.ours),
        row.runc.as_ref().map_or_else(|| "-".to_owned(), median),
        row.goal.show(row.unit),
        verdict.to_owned(),
        spread(&row.ours, row.unit),
    ]
}

fn spread(samples: &Samples, unit: Unit) -> String {
    match samples.range() {
        Some((smallest, largest)) if samples.count() > 1 => {
            format!(
                "{}: {} to {}",
                samples.count(),
                unit.show(smallest),
                unit.show(largest)
            )
        }
        Some(_) | None => samples.count().to_string(),
    }
}
