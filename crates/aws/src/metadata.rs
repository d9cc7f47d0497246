//! What the EC2 instance that this runs on knows of itself, by the instance metadata service, version 2.

use aws_config::{
    imds::client::{Client, error::ImdsError},
    provider_config::ProviderConfig,
};

use crate::{AwsError, AwsSettings, http_client::HttpClient};

/// How often one value is asked for: somewhere that is not EC2, nobody answers and every attempt takes a second.
const ATTEMPTS: u32 = 3;

/// The instance metadata service.
#[derive(Clone, Debug)]
pub struct Metadata {
    client: Client,
}

impl Metadata {
    /// Takes the address of `settings`, of the environment, or the usual one. Nothing is asked yet.
    ///
    /// # Errors
    /// [`AwsError::Metadata`]: the address is none.
    pub fn new(settings: &AwsSettings) -> Result<Self, AwsError> {
        let config = ProviderConfig::default().with_http_client(HttpClient::for_configuration());
        let mut builder = Client::builder().configure(&config).max_attempts(ATTEMPTS);
        if let Some(endpoint) = &settings.metadata_endpoint {
            builder = builder.endpoint(endpoint).map_err(|source| AwsError::Metadata {
                path: endpoint.clone(),
                source,
            })?;
        }
        Ok(Self {
            client: builder.build(),
        })
    }

    /// The value below `/latest/meta-data/`, for example of `instance-id`; none where the instance has no such value.
    ///
    /// # Errors
    /// [`AwsError::Metadata`]: this is no EC2 instance, or the service fails.
    pub async fn get(&self, path: &str) -> Result<Option<String>, AwsError> {
        match self.client.get(format!("/latest/meta-data/{path}")).await {
            Ok(value) => Ok(Some(value.into())),
            Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => Ok(None),
            Err(error) => Err(AwsError::Metadata {
                path: path.to_owned(),
                source: error.into(),
            }),
        }
    }
}
