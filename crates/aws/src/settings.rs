//! What an administrator may say about the account; whatever is left out is found as every AWS program finds it.

use std::{fmt, str::FromStr, time::Duration};

use aws_credential_types::Credentials;

use crate::limits::{FIRST_PAUSE, LONGEST_PAUSE};

/// The name by which these credentials show in the log of `aws-config`.
const STATIC_CREDENTIALS: &str = "peer-pods-secret";

/// The most characters of a region's name; AWS's longest has 16.
const REGION_LIMIT: usize = 32;

/// Which account and region to use, and where they are reached. The default is what the environment says.
#[derive(Clone, Debug, Default)]
pub struct AwsSettings {
    /// The region; by default that of the environment, the profile, or the instance that this runs on.
    pub region: Option<Region>,
    /// A profile of the shared configuration files, instead of `AWS_PROFILE`.
    pub profile: Option<String>,
    /// Keys; by default the credentials that the environment, the profile, a web identity, EKS Pod Identity or the
    /// instance profile give, in this order.
    pub credentials: Option<StaticCredentials>,
    /// EC2's address instead of AWS's own, such as `http://127.0.0.1:5000`.
    pub ec2_endpoint: Option<String>,
    /// The EBS direct API's address instead of AWS's own.
    pub ebs_endpoint: Option<String>,
    /// The instance metadata service's address instead of `http://169.254.169.254`.
    pub metadata_endpoint: Option<String>,
    /// How fast AWS is asked, and asked again.
    pub pace: Pace,
}

/// How fast AWS is asked, and asked again. The default is for AWS; an emulator on loopback can be asked faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The longest first pause between attempts; each further one may be twice as long.
    pub first_pause: Duration,
    /// The longest pause of all.
    pub longest_pause: Duration,
    /// How many times the usual request limits the account has.
    pub limits: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_pause: FIRST_PAUSE,
            longest_pause: LONGEST_PAUSE,
            limits: 1.0,
        }
    }
}

/// Keys that somebody wrote down. Their text shows nothing.
#[derive(Clone)]
pub struct StaticCredentials(Credentials);

impl StaticCredentials {
    /// Takes an access key, its secret, and a session token for keys that are temporary.
    pub fn new(access_key_id: String, secret_access_key: String, session_token: Option<String>) -> Self {
        Self(Credentials::new(
            access_key_id,
            secret_access_key,
            session_token,
            None,
            STATIC_CREDENTIALS,
        ))
    }

    pub(crate) fn into_inner(self) -> Credentials {
        self.0
    }
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StaticCredentials")
    }
}

/// A region's name, such as `eu-central-1`: part of the names of hosts that credentials are shown to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(String);

/// A text that is no [`Region`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a region is named like eu-central-1, in small letters, digits and dashes, not {0:?}")]
pub struct InvalidRegion(pub String);

impl Region {
    /// The region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = InvalidRegion;

    fn from_str(text: &str) -> Result<Self, InvalidRegion> {
        let valid = (1..=REGION_LIMIT).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        valid
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| InvalidRegion(text.to_owned()))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_cannot_lead_to_another_host() {
        for name in ["eu-central-1", "us-gov-west-1", "cn-north-1"] {
            assert_eq!(name.parse::<Region>().unwrap().as_str(), name);
        }
        for wrong in [
            "",
            "-",
            "eu central",
            "EU-central-1",
            "x.evil.example/",
            "a@b",
            "eu-central-1.",
        ] {
            assert_eq!(wrong.parse::<Region>(), Err(InvalidRegion(wrong.to_owned())));
        }
    }

    #[test]
    fn keys_do_not_show() {
        let keys = StaticCredentials::new("AKIDEXAMPLE".into(), "secret".into(), Some("token".into()));
        assert_eq!(format!("{keys:?}"), "StaticCredentials");
    }
}
