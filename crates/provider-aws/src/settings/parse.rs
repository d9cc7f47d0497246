//! From texts to settings: everything is looked at, so that an administrator learns of all mistakes at once.

use std::collections::BTreeMap;

use peerpods_aws::{AwsSettings, Region, StaticCredentials};
use peerpods_provider::parse_switch;

use super::{
    AwsArguments, AwsProviderSettings, ConfidentialVm, InstanceProfile, Interfaces, InvalidSetting,
    InvalidSettings, LaunchTemplate, Market, Reached, Tenancy,
};
use crate::tags::{COUNT_LIMIT, KEY_LIMIT, NAME, OWN_COUNT, PREFIX, VALUE_LIMIT};

/// The default of today's systems.
const DEFAULT_TYPE: &str = "m6a.large";
const DEFAULT_LAUNCH_TEMPLATE: &str = "kata";
const DEFAULT_ROOT_VOLUME_GIB: u32 = 30;
/// The largest gp3 volume.
const ROOT_VOLUME_LIMIT_GIB: u32 = 16_384;
/// More types or subnets than anybody would list.
const LIST_LIMIT: usize = 64;
/// Those of one network interface.
const SECURITY_GROUP_LIMIT: usize = 16;

/// Reads the settings one by one and collects what is wrong.
struct Reader<'a> {
    arguments: &'a AwsArguments,
    problems: Vec<InvalidSetting>,
}

pub(super) fn settings(arguments: &AwsArguments) -> Result<AwsProviderSettings, InvalidSettings> {
    let mut reader = Reader {
        arguments,
        problems: Vec::new(),
    };
    let settings = AwsProviderSettings {
        aws: reader.account(),
        image: reader.image(),
        default_type: reader.instance_type("PODVM_INSTANCE_TYPE", DEFAULT_TYPE),
        allowed_types: reader.list(
            "PODVM_INSTANCE_TYPES",
            LIST_LIMIT,
            is_instance_type,
            "instance types like m6a.large",
        ),
        prices: reader.text("PODVM_INSTANCE_PRICES").map(Into::into),
        subnets: reader.list(
            "AWS_SUBNET_ID",
            LIST_LIMIT,
            |text| is_id(text, "subnet-"),
            "subnets like subnet-0123abcd",
        ),
        security_groups: reader.list(
            "AWS_SG_IDS",
            SECURITY_GROUP_LIMIT,
            |text| is_id(text, "sg-"),
            "security groups like sg-0123abcd",
        ),
        key_name: reader.text("SSH_KP_NAME"),
        reached: if reader.switch("USE_PUBLIC_IP", false) {
            Reached::Publicly
        } else {
            Reached::Privately
        },
        interfaces: if reader.switch("EXTERNAL_NETWORK_VIA_PODVM", false) {
            Interfaces::Two
        } else {
            Interfaces::One
        },
        root_volume_gib: reader.root_volume(),
        root_volume_key: reader.text("ROOT_VOLUME_KMS_KEY"),
        confidential: if reader.switch("DISABLECVM", true) {
            ConfidentialVm::Off
        } else {
            ConfidentialVm::SevSnp
        },
        launch_template: reader.launch_template(),
        tags: reader.tags(),
        instance_profile: reader.text("PODVM_INSTANCE_PROFILE").map(|text| match text {
            arn if arn.starts_with("arn:") => InstanceProfile::Arn(arn),
            name => InstanceProfile::Name(name),
        }),
        placement_group: reader.text("PODVM_PLACEMENT_GROUP"),
        tenancy: reader.tenancy(),
        market: if reader.switch("PODVM_SPOT", false) {
            Market::SpotFirst
        } else {
            Market::OnDemand
        },
    };
    if reader.problems.is_empty() {
        Ok(settings)
    } else {
        Err(InvalidSettings(reader.problems))
    }
}

pub(super) fn account(arguments: &AwsArguments) -> Result<AwsSettings, InvalidSettings> {
    let mut reader = Reader {
        arguments,
        problems: Vec::new(),
    };
    let account = reader.account();
    if reader.problems.is_empty() {
        Ok(account)
    } else {
        Err(InvalidSettings(reader.problems))
    }
}

impl Reader<'_> {
    fn text(&self, name: &'static str) -> Option<String> {
        self.arguments.get(name).map(str::to_owned)
    }

    fn wrong(&mut self, name: &'static str, problem: impl Into<String>) {
        self.problems.push(InvalidSetting {
            name,
            problem: problem.into(),
        });
    }

    fn account(&mut self) -> AwsSettings {
        let region = self.text("AWS_REGION").and_then(|text| {
            let parsed = text.parse::<Region>();
            parsed
                .map_err(|error| self.wrong("AWS_REGION", format!("is wrong: {error}")))
                .ok()
        });
        let key = self.text("AWS_ACCESS_KEY_ID");
        let secret = self.text("AWS_SECRET_ACCESS_KEY");
        let credentials = match (key, secret) {
            (Some(key), Some(secret)) => {
                let token = self.text("AWS_SESSION_TOKEN");
                Some(StaticCredentials::new(key, secret, token))
            }
            (None, None) => None,
            (Some(_), None) => {
                self.wrong("AWS_SECRET_ACCESS_KEY", "is missing beside AWS_ACCESS_KEY_ID");
                None
            }
            (None, Some(_)) => {
                self.wrong("AWS_ACCESS_KEY_ID", "is missing beside AWS_SECRET_ACCESS_KEY");
                None
            }
        };
        AwsSettings {
            region,
            profile: self.text("AWS_PROFILE"),
            credentials,
            ..AwsSettings::default()
        }
    }

    fn image(&mut self) -> String {
        match self.text("PODVM_AMI_ID") {
            Some(id) if is_id(&id, "ami-") => return id,
            Some(id) => self.wrong(
                "PODVM_AMI_ID",
                format!("is no image like ami-0123abcd, but {id:?}"),
            ),
            None => self.wrong(
                "PODVM_AMI_ID",
                "is missing: name a VM image, for example one that `peerpodctl image publish` made",
            ),
        }
        String::new()
    }

    fn instance_type(&mut self, name: &'static str, default: &str) -> String {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        if !is_instance_type(&text) {
            self.wrong(name, format!("is no instance type like m6a.large, but {text:?}"));
        }
        text
    }

    /// Parts between commas; spaces around them are nobody's.
    fn list(
        &mut self,
        name: &'static str,
        limit: usize,
        valid: impl Fn(&str) -> bool,
        expected: &str,
    ) -> Vec<String> {
        let Some(text) = self.text(name) else {
            return Vec::new();
        };
        let parts: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        if let Some(wrong) = parts.iter().find(|part| !valid(part)) {
            self.wrong(name, format!("is no list of {expected}: there is {wrong:?}"));
        }
        if parts.len() > limit {
            self.wrong(name, format!("has {} entries; {limit} are the most", parts.len()));
        }
        parts.into_iter().map(str::to_owned).collect()
    }

    fn switch(&mut self, name: &'static str, default: bool) -> bool {
        let Some(text) = self.text(name) else {
            return default;
        };
        parse_switch(&text).unwrap_or_else(|| {
            let problem = format!("is true or false, not {:?}", text.to_ascii_lowercase());
            self.wrong(name, problem);
            default
        })
    }

    fn root_volume(&mut self) -> u32 {
        let Some(text) = self.text("ROOT_VOLUME_SIZE") else {
            return DEFAULT_ROOT_VOLUME_GIB;
        };
        match text.parse() {
            // Today's systems take 0 for the size of the image.
            Ok(size) if size <= ROOT_VOLUME_LIMIT_GIB => size,
            _ => {
                let problem = format!("is a number of GiB from 0 to {ROOT_VOLUME_LIMIT_GIB}, not {text:?}");
                self.wrong("ROOT_VOLUME_SIZE", problem);
                DEFAULT_ROOT_VOLUME_GIB
            }
        }
    }

    fn launch_template(&mut self) -> Option<LaunchTemplate> {
        let name = self.text("PODVM_LAUNCHTEMPLATE_NAME");
        self.switch("USE_PODVM_LAUNCHTEMPLATE", false)
            .then(|| LaunchTemplate {
                name: name.unwrap_or_else(|| DEFAULT_LAUNCH_TEMPLATE.to_owned()),
            })
    }

    fn tags(&mut self) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::new();
        for pair in self
            .text("TAGS")
            .unwrap_or_default()
            .split(',')
            .filter(|pair| !pair.trim().is_empty())
        {
            let Some((key, value)) = pair.split_once('=') else {
                self.wrong("TAGS", format!("is key=value,key=value; there is {pair:?}"));
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            let is_own = key == NAME || key.starts_with(PREFIX) || key.starts_with("aws:");
            if key.is_empty() || is_own {
                self.wrong("TAGS", format!("cannot set the tag {key:?}"));
            } else if key.chars().count() > KEY_LIMIT || value.chars().count() > VALUE_LIMIT {
                self.wrong(
                    "TAGS",
                    format!(
                        "has a key of more than {KEY_LIMIT} characters, or a value of more than {VALUE_LIMIT}"
                    ),
                );
            }
            tags.insert(key.to_owned(), value.to_owned());
        }
        if tags.len() > COUNT_LIMIT - OWN_COUNT {
            self.wrong("TAGS", format!("has more than {} tags", COUNT_LIMIT - OWN_COUNT));
        }
        tags
    }

    fn tenancy(&mut self) -> Tenancy {
        let host = self.text("PODVM_HOST_ID");
        let group = self.text("PODVM_HOST_RESOURCE_GROUP");
        if host.is_some() && group.is_some() {
            self.wrong(
                "PODVM_HOST_ID",
                "and PODVM_HOST_RESOURCE_GROUP cannot both be set",
            );
        }
        let named = host.is_some() || group.is_some();
        match self.text("PODVM_TENANCY").as_deref() {
            None | Some("host") if named => Tenancy::Host { host, group },
            None | Some("default") if !named => Tenancy::Shared,
            Some("host") => Tenancy::Host { host, group },
            Some("dedicated") if !named => Tenancy::Dedicated,
            other => {
                let problem = if named {
                    "must be host where a host or a group of hosts is set".to_owned()
                } else {
                    format!("is default, dedicated or host, not {other:?}")
                };
                self.wrong("PODVM_TENANCY", problem);
                Tenancy::Shared
            }
        }
    }
}

/// `PREFIX` and a number in hexadecimal, as EC2's ids are.
fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|number| {
        (8..=17).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Whether a VM image's id may be asked for.
pub(crate) fn is_image(text: &str) -> bool {
    is_id(text, "ami-")
}

/// `FAMILY.SIZE`
fn is_instance_type(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 32
        && text
            .split_once('.')
            .is_some_and(|(family, size)| is_part(family) && is_part(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Addressing;

    fn parse(values: &[(&str, &str)]) -> Result<AwsProviderSettings, String> {
        let value = |name: &str| {
            let found = values.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        AwsArguments::from_values(value)
            .parse()
            .map_err(|error| error.to_string())
    }

    const IMAGE: (&str, &str) = ("PODVM_AMI_ID", "ami-0123456789abcdef0");

    #[test]
    fn an_image_is_enough() {
        let settings = parse(&[IMAGE, ("TAGS", ""), ("AWS_SUBNET_ID", " ")]).unwrap();
        assert_eq!(settings.default_type, "m6a.large");
        assert_eq!(
            (settings.root_volume_gib, settings.reached),
            (30, Reached::Privately)
        );
        assert_eq!(
            (settings.interfaces, settings.addressing()),
            (Interfaces::One, Addressing::Automatic)
        );
        assert_eq!(
            (settings.confidential, settings.tenancy),
            (ConfidentialVm::Off, Tenancy::Shared)
        );
        assert!(
            settings.subnets.is_empty() && settings.tags.is_empty() && settings.launch_template.is_none()
        );
    }

    #[test]
    fn everything_is_read() {
        let settings = parse(&[
            IMAGE,
            ("AWS_REGION", "eu-central-1"),
            ("PODVM_INSTANCE_TYPES", "m6a.large, c7i-flex.xlarge,"),
            ("AWS_SUBNET_ID", "subnet-0123abcd,subnet-4567abcd"),
            ("AWS_SG_IDS", "sg-0123abcd"),
            ("USE_PUBLIC_IP", "True"),
            ("EXTERNAL_NETWORK_VIA_PODVM", "true"),
            ("ROOT_VOLUME_SIZE", "100"),
            ("DISABLECVM", "false"),
            ("USE_PODVM_LAUNCHTEMPLATE", "true"),
            ("TAGS", "team=storage, cost-center = 7=8"),
            (
                "PODVM_INSTANCE_PROFILE",
                "arn:aws:iam::123456789012:instance-profile/vm",
            ),
            ("PODVM_HOST_ID", "h-0123abcd"),
        ])
        .unwrap();
        assert_eq!(settings.allowed_types, ["m6a.large", "c7i-flex.xlarge"]);
        assert_eq!(settings.subnets.len(), 2);
        assert_eq!(
            (settings.root_volume_gib, settings.reached),
            (100, Reached::Publicly)
        );
        assert_eq!(
            (settings.interfaces, settings.addressing()),
            (Interfaces::Two, Addressing::Elastic)
        );
        assert_eq!(settings.confidential, ConfidentialVm::SevSnp);
        assert_eq!(settings.launch_template.unwrap().name, "kata");
        assert_eq!(settings.tags["cost-center"], "7=8");
        assert!(matches!(settings.instance_profile, Some(InstanceProfile::Arn(_))));
        assert!(matches!(
            settings.tenancy,
            Tenancy::Host {
                host: Some(_),
                group: None
            }
        ));
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let text = parse(&[
            ("AWS_REGION", "Europe"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("PODVM_INSTANCE_TYPE", "large"),
            ("AWS_SUBNET_ID", "subnet-0123abcd,vpc-1"),
            ("USE_PUBLIC_IP", "perhaps"),
            ("ROOT_VOLUME_SIZE", "many"),
            ("TAGS", "Name=x,team,aws:y=z"),
            ("PODVM_TENANCY", "mine"),
        ])
        .unwrap_err();
        for part in [
            "AWS_REGION is wrong",
            "AWS_SECRET_ACCESS_KEY is missing",
            "PODVM_AMI_ID is missing",
            "PODVM_INSTANCE_TYPE is no instance type",
            "AWS_SUBNET_ID is no list of subnets",
            "there is \"vpc-1\"",
            "USE_PUBLIC_IP is true or false",
            "ROOT_VOLUME_SIZE is a number",
            "TAGS cannot set the tag \"Name\"",
            "TAGS is key=value",
            "TAGS cannot set the tag \"aws:y\"",
            "PODVM_TENANCY is default, dedicated or host",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let arguments = AwsArguments::from_values(|name| Some(format!("value of {name}")));
        assert!(!format!("{arguments:?}").contains("value of"));
    }
}
