//! One figure of the result: ours, runc's where runc does the same, and the goal.

use serde::Serialize;

use super::samples::Samples;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Mebibytes,
    Kibibytes,
    MebibytesPerSecond,
    CpuSeconds,
    CpuMillisecondsPerMinute,
    Percent,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// At most so much more than runc.
    AtMostAboveRunc(f64),
    /// A figure that explains another one.
    None,
}

/// Whether a goal was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    Met,
    Misses,
    NoGoal,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// For programs that read the history.
    pub(super) name: &'static str,
    /// For people.
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) ours: Samples,
    pub(super) runc: Option<Samples>,
    pub(super) goal: Goal,
}

impl Row {
    pub(super) fn new(name: &'static str, what: &str, unit: Unit, ours: Samples) -> Self {
        Self {
            name,
            what: what.to_owned(),
            unit,
            ours,
            runc: None,
            goal: Goal::None,
        }
    }

    pub(super) fn beside(mut self, runc: Samples) -> Self {
        self.runc = Some(runc);
        self
    }

    pub(super) fn goal(mut self, goal: Goal) -> Self {
        self.goal = goal;
        self
    }

    /// A figure that was not taken reaches no goal.
    pub(super) fn verdict(&self) -> Verdict {
        let ours = self.ours.median();
        let runc = self.runc.as_ref().and_then(Samples::median);
        let met = match self.goal {
            Goal::None => return Verdict::NoGoal,
            Goal::AtMost(most) => ours.is_some_and(|ours| ours <= most),
            Goal::AtLeast(least) => ours.is_some_and(|ours| ours >= least),
            Goal::AtMostAboveRunc(most) => ours.zip(runc).is_some_and(|(ours, runc)| ours - runc <= most),
        };
        if met { Verdict::Met } else { Verdict::Misses }
    }
}

impl Unit {
    /// A value as people read it.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.3} s"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Mebibytes => format!("{value:.1} MiB"),
            Self::Kibibytes => format!("{value:.0} KiB"),
            Self::MebibytesPerSecond => format!("{value:.0} MiB/s"),
            Self::CpuSeconds => format!("{value:.2} s"),
            Self::CpuMillisecondsPerMinute => format!("{value:.1} ms/min"),
            Self::Percent => format!("{value:.1} %"),
        }
    }
}

impl Goal {
    pub(super) fn show(self, unit: Unit) -> String {
        match self {
            Self::AtMost(value) => format!("<= {}", unit.show(value)),
            Self::AtLeast(value) => format!(">= {}", unit.show(value)),
            Self::AtMostAboveRunc(value) => format!("<= runc + {}", unit.show(value)),
            Self::None => "-".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_missed() {
        let row = |goal| Row::new("x", "x", Unit::Seconds, Samples::one(1.0)).goal(goal);
        assert_eq!(row(Goal::AtMost(1.0)).verdict(), Verdict::Met);
        assert_eq!(row(Goal::AtLeast(1.1)).verdict(), Verdict::Misses);
        assert_eq!(row(Goal::None).verdict(), Verdict::NoGoal);
        assert_eq!(row(Goal::AtMostAboveRunc(0.5)).verdict(), Verdict::Misses);
        let beside = row(Goal::AtMostAboveRunc(0.5)).beside(Samples::one(0.6));
        assert_eq!(beside.verdict(), Verdict::Met);
    }
}
