//! Where a service is reached.

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use crate::Region;

/// The services of this crate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    Ec2,
    Ebs,
}

impl Service {
    /// The name in signatures and in AWS's host names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ebs => "ebs",
        }
    }

    /// The name in variables and profiles.
    fn id(self) -> &'static str {
        match self {
            Self::Ec2 => "EC2",
            Self::Ebs => "EBS",
        }
    }

    /// What the environment or the profile names for this service, else for all services.
    pub(crate) fn configured(self, config: &SdkConfig) -> Option<String> {
        let key = ServiceConfigKey::builder()
            .service_id(self.id())
            .profile("endpoint_url")
            .env("AWS_ENDPOINT_URL")
            .build()
            .ok()?;
        config
            .service_config()
            .and_then(|variables| variables.load_config(key))
            .or_else(|| config.endpoint_url().map(str::to_owned))
    }

    /// AWS's own address.
    pub(crate) fn of_region(self, region: &Region) -> String {
        let domain = if region.as_str().starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        format!("https://{}.{region}.{domain}", self.name())
    }
}

/// An endpoint without the slash that a path begins with.
pub(crate) fn base(endpoint: &str) -> &str {
    endpoint.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_has_a_host_for_every_region() {
        let of = |service: Service, region: &str| service.of_region(&region.parse().unwrap());
        assert_eq!(
            of(Service::Ec2, "eu-central-1"),
            "https://ec2.eu-central-1.amazonaws.com"
        );
        assert_eq!(
            of(Service::Ebs, "cn-north-1"),
            "https://ebs.cn-north-1.amazonaws.com.cn"
        );
    }
}
