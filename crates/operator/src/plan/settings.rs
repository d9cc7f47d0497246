//! Whether the settings and credentials can be used.

use std::{collections::BTreeMap, fmt};

use peerpods_api::{VmLimit, names};

use crate::observed::{Credentials, Observed};

/// What keeps VMs from being launched, each naming what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// There is no ConfigMap.
    NoConfigMap,
    /// There is no Secret.
    NoSecret,
    /// A key has no value.
    Missing { object: &'static str, key: &'static str },
    /// A value means nothing.
    Invalid {
        key: &'static str,
        value: String,
        wanted: &'static str,
    },
}

impl Problem {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoConfigMap => "ConfigMapMissing",
            Self::NoSecret => "SecretMissing",
            Self::Missing { .. } => "KeyMissing",
            Self::Invalid { .. } => "KeyInvalid",
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
            Self::NoSecret => write!(
                formatter,
                "Secret {} does not exist: create it with the provider's credentials",
                names::CLOUD_SECRET
            ),
            Self::Missing { object, key } => write!(formatter, "{object} has no value for {key}"),
            Self::Invalid { key, value, wanted } => {
                let object = names::SETTINGS_CONFIG_MAP;
                write!(formatter, "{key} in {object} is {value:?}: it must be {wanted}")
            }
        }
    }
}

/// What a provider cannot do without.
struct Provider {
    name: &'static str,
    settings: &'static [&'static str],
    credentials: &'static [&'static str],
}

const PROVIDERS: [Provider; 3] = [
    Provider {
        name: "aws",
        settings: &["AWS_REGION", "AWS_SUBNET_ID", "AWS_VPC_ID", "AWS_SG_IDS"],
        credentials: &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    },
    Provider {
        name: "qemu",
        settings: &[],
        credentials: &[],
    },
    Provider {
        name: "namespaces",
        settings: &[],
        credentials: &[],
    },
];

/// A setting whose value must have a form, where it has a value.
struct Form {
    key: &'static str,
    wanted: &'static str,
    is: fn(&str) -> bool,
}

const PORT: &str = "a port between 1 and 65535";
const FORMS: [Form; 4] = [
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
            object: names::SETTINGS_CONFIG_MAP,
            key: "CLOUD_PROVIDER",
        }),
        Some(name) => match PROVIDERS.iter().find(|provider| provider.name == name) {
            Some(provider) => problems.extend(missing(provider, settings, observed.credentials.as_ref())),
            None => problems.push(Problem::Invalid {
                key: "CLOUD_PROVIDER",
                value: short(name),
                wanted: "aws, qemu or namespaces",
            }),
        },
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

fn missing(
    provider: &'static Provider,
    settings: &BTreeMap<String, String>,
    credentials: Option<&Credentials>,
) -> Vec<Problem> {
    let unset = provider
        .settings
        .iter()
        .filter(|key| value(settings, key).is_none());
    let mut problems: Vec<_> = unset
        .map(|key| Problem::Missing {
            object: names::SETTINGS_CONFIG_MAP,
            key,
        })
        .collect();
    match credentials {
        None if !provider.credentials.is_empty() => problems.push(Problem::NoSecret),
        None => {}
        Some(credentials) => {
            let unset = provider
                .credentials
                .iter()
                .filter(|key| !credentials.keys.contains(**key));
            problems.extend(unset.map(|key| Problem::Missing {
                object: names::CLOUD_SECRET,
                key,
            }));
        }
    }
    problems
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

fn is_limit(value: &str) -> bool {
    value.parse::<VmLimit>().is_ok()
}
