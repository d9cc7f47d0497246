//! Whether the settings and credentials can be used.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use peerpods_api::{UnknownLogLevel, VmLimit, names};
use peerpods_provider::parse_switch;

use super::conditions;
use crate::{
    names::{AWS, SETTINGS_REFUSED},
    observed::{Component, Observed, PodState},
};

/// What keeps VMs from being launched, each naming what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// There is no ConfigMap.
    NoConfigMap,
    /// A key has no value.
    Missing { key: &'static str },
    /// One key of a pair has a value, and the other has none.
    HalfGiven {
        given: &'static str,
        missing: &'static str,
    },
    /// A value means nothing.
    Invalid {
        key: &'static str,
        value: String,
        wanted: &'static str,
    },
    /// The KataConfig asks for a log level that is none.
    LogLevel(UnknownLogLevel),
    /// Adaptors do not start with what they are given.
    Refused { nodes: String, why: String },
}

impl Problem {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoConfigMap => "ConfigMapMissing",
            Self::Missing { .. } | Self::HalfGiven { .. } => "KeyMissing",
            Self::Invalid { .. } => "KeyInvalid",
            Self::LogLevel(_) => "LogLevelInvalid",
            Self::Refused { .. } => SETTINGS_REFUSED,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConfigMap => write!(
                formatter,
                "ConfigMap {} does not exist: create it with at least CLOUD_PROVIDER",
                names::SETTINGS_CONFIG_MAP
            ),
            Self::Missing { key } => {
                write!(formatter, "{} has no value for {key}", names::SETTINGS_CONFIG_MAP)
            }
            Self::HalfGiven { given, missing } => write!(
                formatter,
                "{} has no value for {missing}, and one for {given}: set both, or neither where nodes have a role of their own",
                names::CLOUD_SECRET
            ),
            Self::Invalid { key, value, wanted } => {
                let object = names::SETTINGS_CONFIG_MAP;
                write!(formatter, "{key} in {object} is {value:?}: it must be {wanted}")
            }
            Self::LogLevel(error) => write!(formatter, "{error}"),
            Self::Refused { nodes, why } => {
                write!(
                    formatter,
                    "the adaptor does not start with them on {nodes}: {why}"
                )
            }
        }
    }
}

/// Where VMs may run. What a provider needs beyond its name it finds by itself, or its adaptor says what is missing.
const PROVIDERS: [&str; 3] = [AWS, "qemu", "namespaces"];

/// Credentials of AWS that say nothing without one another. Without both, AWS is asked as the node's or the account's role.
const PAIR: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// A setting whose value must have a form, where it has a value.
struct Form {
    key: &'static str,
    wanted: &'static str,
    is: fn(&str) -> bool,
}

const PORT: &str = "a port between 1 and 65535";
const FORMS: [Form; 8] = [
    Form {
        key: "VXLAN_PORT",
        wanted: PORT,
        is: is_port,
    },
    Form {
        key: "FORWARDER_PORT",
        wanted: PORT,
        is: is_port,
    },
    Form {
        key: "PROXY_TIMEOUT",
        wanted: "a duration such as 5m",
        is: is_duration,
    },
    Form {
        key: "SCRATCH_ENCRYPTION",
        wanted: "none or ephemeral",
        is: |value| matches!(value, "none" | "ephemeral"),
    },
    Form {
        key: "INSTANCE_METADATA",
        wanted: "refuse or allow",
        is: |value| matches!(value, "refuse" | "allow"),
    },
    Form {
        key: "EXTERNAL_NETWORK_VIA_PODVM",
        wanted: "true or false",
        is: |value| parse_switch(value).is_some(),
    },
    Form {
        key: "POD_SUBNET_CIDRS",
        wanted: "networks such as 10.244.0.0/16, separated by commas",
        is: are_networks,
    },
    Form {
        key: names::LIMIT_SETTING,
        wanted: "a non-negative integer of at most 6 digits, for example 10",
        is: is_limit,
    },
];

/// Values of settings are shown; a longer one helps nobody.
const SHOWN_CHARACTERS: usize = 32;

/// All that is wrong; nothing, where VMs can be launched.
pub(super) fn problems(observed: &Observed) -> Vec<Problem> {
    let Some(settings) = &observed.settings else {
        return vec![Problem::NoConfigMap];
    };
    let mut problems = Vec::new();
    match value(settings, "CLOUD_PROVIDER") {
        None => problems.push(Problem::Missing {
            key: "CLOUD_PROVIDER",
        }),
        Some(name) if PROVIDERS.contains(&name) => {
            problems.extend((name == AWS).then(|| half_given(observed, settings)).flatten());
        }
        Some(name) => problems.push(Problem::Invalid {
            key: "CLOUD_PROVIDER",
            value: short(name),
            wanted: "aws, qemu or namespaces",
        }),
    }
    problems.extend(FORMS.iter().filter_map(|form| {
        let wrong = value(settings, form.key).filter(|value| !(form.is)(value))?;
        Some(Problem::Invalid {
            key: form.key,
            value: short(wrong),
            wanted: form.wanted,
        })
    }));
    problems
}

/// Adaptors get the Secret and the ConfigMap alike, so a key may be in either.
fn half_given(observed: &Observed, settings: &BTreeMap<String, String>) -> Option<Problem> {
    let is_given = |key: &str| {
        let credentials = observed.credentials.as_ref();
        credentials.is_some_and(|credentials| credentials.keys.contains(key))
            || value(settings, key).is_some()
    };
    let [id, secret] = PAIR;
    match (is_given(id), is_given(secret)) {
        (true, false) => Some(Problem::HalfGiven {
            given: id,
            missing: secret,
        }),
        (false, true) => Some(Problem::HalfGiven {
            given: secret,
            missing: id,
        }),
        (true, true) | (false, false) => None,
    }
}

/// What adaptors found wrong as they started. It is for people alone: adaptors with other settings are the remedy, so it
/// must not keep them from being started.
pub(super) fn refused(observed: &Observed) -> Option<Problem> {
    let refusing = observed
        .components
        .iter()
        .filter(|pod| pod.component == Component::Adaptor);
    let refusing = refusing.filter_map(|pod| match &pod.state {
        PodState::Failing { reason, message } if reason == SETTINGS_REFUSED => {
            Some((pod.node.as_ref()?.0.as_str(), message))
        }
        PodState::Failing { .. } | PodState::Starting | PodState::Ready | PodState::Finished { .. } => None,
    });
    let refusing: Vec<_> = refusing.collect();
    let (_, why) = refusing.first()?;
    Some(Problem::Refused {
        nodes: conditions::names(refusing.iter().map(|(node, _)| *node)),
        why: (*why).clone(),
    })
}

/// An empty value is none, as in today's examples.
pub(super) fn value<'a>(settings: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    settings
        .get(key)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

fn short(value: &str) -> String {
    value.chars().take(SHOWN_CHARACTERS).collect()
}

fn is_port(value: &str) -> bool {
    value.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_duration(value: &str) -> bool {
    let (number, unit) =
        value.split_at(value.len() - value.chars().rev().take_while(char::is_ascii_alphabetic).count());
    matches!(unit, "" | "s" | "m" | "h") && number.parse::<u32>().is_ok_and(|number| number > 0)
}

fn are_networks(value: &str) -> bool {
    let is_network = |text: &str| {
        let (address, prefix) = text.split_once('/')?;
        let longest = match address.parse().ok()? {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Some((1..=longest).contains(&prefix.parse::<u8>().ok()?))
    };
    let mut parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.all(|part| is_network(part).unwrap_or(false))
}

fn is_limit(value: &str) -> bool {
    value.parse::<VmLimit>().is_ok()
}
