//! The cluster's account at AWS, for ending VMs whose pods or nodes are gone.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt, api::ListParams};
use peerpods_api::names;
use peerpods_error::chain;
use peerpods_provider::Reaper;
use peerpods_provider_aws::{AwsArguments, AwsReaper, Timing};
use tokio::sync::Mutex;

use super::Performer;

/// Where EC2 is reached, if not at AWS's own address; the adaptor reads the same from its environment.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"];

/// The account that was reached last. What it knows of ends that are under way saves questions; new settings or credentials
/// make another one.
#[derive(Default)]
pub(crate) struct Account {
    reached: Mutex<Option<(Versions, Arc<AwsReaper>)>>,
}

/// Of the objects that say which account it is.
type Versions = [Option<String>; 2];

impl Performer<'_> {
    /// The account of `peer-pods-cm` and `peer-pods-secret`, as they are now. The Secret is read only for this, and only its
    /// version is kept. Where it has no keys, this pod's own role is used.
    pub(super) async fn aws(&self) -> Result<Arc<dyn Reaper>, String> {
        let one = |name: &str| ListParams::default().fields(&format!("metadata.name={name}"));
        let namespace = &self.installation.namespace;
        let settings: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let credentials: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let settings = settings.list(&one(names::SETTINGS_CONFIG_MAP)).await;
        let settings = settings.map_err(|error| chain(&error))?.items.pop();
        let credentials = credentials.list(&one(names::CLOUD_SECRET)).await;
        let credentials = credentials.map_err(|error| chain(&error))?.items.pop();
        let versions = [
            settings.as_ref().and_then(ResourceExt::resource_version),
            credentials.as_ref().and_then(ResourceExt::resource_version),
        ];

        let mut reached = self.account.reached.lock().await;
        if let Some((of, account)) = reached.as_ref()
            && *of == versions
        {
            return Ok(account.clone());
        }
        let settings = settings.and_then(|map| map.data).unwrap_or_default();
        let credentials = credentials.and_then(|secret| secret.data).unwrap_or_default();
        let account = Arc::new(
            connect(&settings, |name| {
                let bytes = &credentials.get(name)?.0;
                String::from_utf8(bytes.clone()).ok()
            })
            .await?,
        );
        *reached = Some((versions, account.clone()));
        Ok(account)
    }
}

async fn connect(
    settings: &BTreeMap<String, String>,
    secret: impl Fn(&str) -> Option<String>,
) -> Result<AwsReaper, String> {
    let arguments = AwsArguments::from_values(|name| secret(name).or_else(|| settings.get(name).cloned()));
    let mut account = arguments.account().map_err(|error| error.to_string())?;
    let endpoint = ENDPOINTS.iter().find_map(|name| settings.get(*name));
    account.ec2_endpoint = endpoint.filter(|url| !url.is_empty()).cloned();
    let reaper = AwsReaper::connect(&account, Timing::default()).await;
    reaper.map_err(|error| chain(&error))
}
