//! One account in one region.

use std::sync::Arc;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use tokio::time::timeout;

use crate::{
    AwsError, AwsSettings, Ebs, Ec2, Metadata, Pace, Region,
    budget::Budget,
    credentials::CredentialsCache,
    endpoint::{self, Service},
    http_client::HttpClient,
    limits::DISCOVERY_LIMIT,
};

/// One account in one region: credentials, connections, and the budget of requests, which all clones share.
#[derive(Clone, Debug)]
pub struct Aws {
    pub(crate) shared: Arc<Shared>,
    region: Region,
    pub(crate) budget: Arc<Budget>,
    pub(crate) pace: Pace,
    ec2_endpoint: Option<String>,
    ebs_endpoint: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) http: HttpClient,
    pub(crate) credentials: CredentialsCache,
}

impl Aws {
    /// Finds region and credentials where `settings` do not give them. Credentials are asked for with the first call, so
    /// that an outage of their source delays calls and not the start.
    ///
    /// # Errors
    /// [`AwsError::NoRegion`]: none is set, and this is no EC2 instance that could tell its own.
    pub async fn connect(settings: &AwsSettings) -> Result<Self, AwsError> {
        let config = load(settings).await?;
        let region = match &settings.region {
            Some(region) => region.clone(),
            None => find_region(settings, &config).await?,
        };
        let provider = match settings.credentials.clone() {
            Some(keys) => Some(SharedCredentialsProvider::new(keys.into_inner())),
            None => config.credentials_provider(),
        };
        let endpoint =
            |service: Service, given: &Option<String>| given.clone().or_else(|| service.configured(&config));
        Ok(Self {
            shared: Arc::new(Shared {
                http: HttpClient::new(),
                credentials: CredentialsCache::new(provider),
            }),
            region,
            budget: Arc::new(Budget::new(settings.pace.limits)),
            pace: settings.pace,
            ec2_endpoint: endpoint(Service::Ec2, &settings.ec2_endpoint),
            ebs_endpoint: endpoint(Service::Ebs, &settings.ebs_endpoint),
        })
    }

    /// The same account in another region, whose request limits are its own. Endpoints that were named stay.
    pub fn in_region(&self, region: Region) -> Self {
        Self {
            region,
            budget: Arc::new(Budget::new(self.pace.limits)),
            ..self.clone()
        }
    }

    /// The region of all calls.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// EC2.
    pub fn ec2(&self) -> Ec2 {
        Ec2::new(self.clone())
    }

    /// The EBS direct API.
    pub fn ebs(&self) -> Ebs {
        Ebs::new(self.clone())
    }

    /// Where a service is reached, without a slash at the end.
    pub(crate) fn endpoint(&self, service: Service) -> String {
        let named = match service {
            Service::Ec2 => &self.ec2_endpoint,
            Service::Ebs => &self.ebs_endpoint,
        };
        match named {
            Some(url) => endpoint::base(url).to_owned(),
            None => service.of_region(&self.region),
        }
    }
}

/// The region of the environment, the profile or the instance.
async fn find_region(settings: &AwsSettings, config: &SdkConfig) -> Result<Region, AwsError> {
    let found = match config.region().map(AsRef::as_ref) {
        // A key that was emptied in a ConfigMap keeps `aws-config` from asking the instance.
        Some("") => Metadata::new(settings)?.get("placement/region").await?,
        found => found.map(str::to_owned),
    };
    found.ok_or(AwsError::NoRegion)?.parse().map_err(AwsError::Region)
}

async fn load(settings: &AwsSettings) -> Result<SdkConfig, AwsError> {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).http_client(HttpClient::for_configuration());
    if let Some(region) = &settings.region {
        loader = loader.region(aws_config::Region::new(region.to_string()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    timeout(DISCOVERY_LIMIT, loader.load())
        .await
        .map_err(|_| AwsError::TimedOut {
            action: "the search for AWS settings",
            limit: DISCOVERY_LIMIT,
        })
}
