//! An account for tests.

use peerpods_aws::{AwsSettings, StaticCredentials};

/// Region and keys; nothing else is set.
pub(crate) fn account() -> AwsSettings {
    AwsSettings {
        region: Some("eu-central-1".parse().unwrap()),
        credentials: Some(StaticCredentials::new(
            "AKIDEXAMPLE".into(),
            "secret".into(),
            None,
        )),
        ..AwsSettings::default()
    }
}
