//! Conditions: what is said, and since when.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use peerpods_api::Condition;

/// How many names a message lists.
const NAMES_SHOWN: usize = 5;
/// Messages are for people; the API server takes 32 KiB.
const MESSAGE_LIMIT: usize = 4096;

/// One condition as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) kind: &'static str,
    pub(super) holds: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Said {
    pub(super) fn yes(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            holds: true,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            holds: false,
            reason,
            message: message.into(),
        }
    }
}

/// The conditions to write: one that holds, or does not, as before keeps its time. Those of other writers stay.
pub(super) fn merge(
    before: &[Condition],
    said: Vec<Said>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let ours: Vec<_> = said.iter().map(|one| one.kind).collect();
    let others = before.iter().filter(|one| !ours.contains(&one.type_.as_str()));
    let mut all: Vec<_> = others.cloned().collect();
    all.extend(said.into_iter().map(|one| {
        let status = if one.holds { "True" } else { "False" };
        let same = before
            .iter()
            .find(|before| before.type_ == one.kind && before.status == status);
        Condition {
            type_: one.kind.to_owned(),
            status: status.to_owned(),
            reason: one.reason.to_owned(),
            message: one.message.chars().take(MESSAGE_LIMIT).collect(),
            last_transition_time: same.map_or_else(
                || Time(whole_seconds(now)),
                |same| same.last_transition_time.clone(),
            ),
            observed_generation: generation,
        }
    }));
    all.sort_by(|one, other| one.type_.cmp(&other.type_));
    all
}

/// Kubernetes keeps no fractions of seconds: with them, what was written would never be what is read.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// `a, b and 3 more`.
pub(super) fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<_> = all.into_iter().collect();
    let shown = all
        .iter()
        .take(NAMES_SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match all.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
