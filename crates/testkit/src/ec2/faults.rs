//! Faults that are asked for from outside: what the test bed's EC2 does wrong, by rules that somebody puts there.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Fault, Request};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// The request does not arrive.
    LoseRequest,
    /// It takes effect, and its answer is lost.
    LoseReply,
    /// It arrives twice.
    Duplicate,
    /// It is refused, because there were too many.
    Throttle,
    /// It is refused, because there is no room.
    NoCapacity,
}

impl From<Kind> for Fault {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::LoseRequest => Self::LoseRequest,
            Kind::LoseReply => Self::LoseReply,
            Kind::Duplicate => Self::Duplicate,
            Kind::Throttle => Self::Refuse(503, "RequestLimitExceeded"),
            Kind::NoCapacity => Self::Refuse(500, "InsufficientInstanceCapacity"),
        }
    }
}

/// Which requests it happens to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// For example `RunInstances`.
    action: String,
    /// Only launches into this subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<String>,
    fault: Kind,
    /// To how many of them.
    #[serde(default = "once")]
    times: u32,
    /// To how many it has happened.
    #[serde(default, skip_deserializing)]
    struck: u32,
}

fn once() -> u32 {
    1
}

impl Rule {
    fn concerns(&self, request: &Request) -> bool {
        let is_there = self.subnet.is_none() || self.subnet.as_deref() == request.subnet();
        self.struck < self.times && self.action == request.action && is_there
    }
}

/// The rules; of those that concern a request, the first one holds.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    /// Puts these rules, a list in JSON, in the place of those before.
    ///
    /// # Errors
    /// They are none.
    pub(super) fn replace(&self, rules: &[u8]) -> serde_json::Result<()> {
        *self.rules() = serde_json::from_slice(rules)?;
        Ok(())
    }

    /// The rules, and how often each has held.
    pub(super) fn told(&self) -> String {
        let rules = serde_json::to_string_pretty(&*self.rules());
        rules.expect("names and numbers are JSON") + "\n"
    }

    /// What becomes of a request.
    pub(super) fn strike(&self, request: &Request) -> Option<Fault> {
        let mut rules = self.rules();
        let rule = rules.iter_mut().find(|rule| rule.concerns(request))?;
        rule.struck += 1;
        Some(rule.fault.into())
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_holds_as_often_as_it_says_for_what_it_says() {
        let faults = Faults::default();
        let launch =
            |subnet: &str| Request::parse(format!("Action=RunInstances&SubnetId={subnet}").as_bytes());
        let rules = br#"[
            {"action": "RunInstances", "subnet": "a", "fault": "no-capacity", "times": 2},
            {"action": "RunInstances", "fault": "lose-reply"}
        ]"#;
        faults.replace(rules).unwrap();
        let full = Some(Fault::Refuse(500, "InsufficientInstanceCapacity"));
        assert_eq!(faults.strike(&Request::parse(b"Action=DescribeInstances")), None);
        assert_eq!(faults.strike(&launch("a")), full);
        assert_eq!(faults.strike(&launch("b")), Some(Fault::LoseReply));
        assert_eq!(faults.strike(&launch("b")), None);
        assert_eq!(faults.strike(&launch("a")), full);
        assert_eq!(faults.strike(&launch("a")), None);
        assert_eq!(
            faults.told().matches("\"struck\": 2").count(),
            1,
            "{}",
            faults.told()
        );
    }

    #[test]
    fn what_is_no_rule_is_refused_and_changes_nothing() {
        let faults = Faults::default();
        faults
            .replace(br#"[{"action": "RunInstances", "fault": "throttle"}]"#)
            .unwrap();
        for rules in [
            "",
            "{}",
            r#"[{"action": "RunInstances", "fault": "lightning"}]"#,
            r#"[{"fault": "throttle"}]"#,
        ] {
            faults.replace(rules.as_bytes()).unwrap_err();
        }
        assert!(faults.strike(&Request::parse(b"Action=RunInstances")).is_some());
    }
}
