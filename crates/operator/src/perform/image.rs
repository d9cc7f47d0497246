//! The id of an image that was published becomes a setting.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ListParams, Patch},
};
use peerpods_api::names::{IMAGE_SETTING, SETTINGS_CONFIG_MAP};
use serde_json::json;

use super::{ActionError, Performer, objects::merge_parameters};
use crate::{observe::settings, observed::ImageId};

impl Performer<'_> {
    /// Sets it where nobody has set one: what somebody sets at this moment stays.
    pub(super) async fn set_image(&self, image: &ImageId) -> Result<(), ActionError> {
        let failed = || ActionError::call("set PODVM_AMI_ID in ConfigMap", SETTINGS_CONFIG_MAP);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.installation.namespace);
        let one = ListParams::default().fields(&format!("metadata.name={SETTINGS_CONFIG_MAP}"));
        let Some(map) = api.list(&one).await.map_err(failed())?.items.pop() else {
            return Ok(());
        };
        let set = map.data.as_ref().and_then(|data| data.get(IMAGE_SETTING));
        if set.is_none_or(String::is_empty) {
            // Of the version that was looked at, or not at all.
            let version = &map.metadata.resource_version;
            let patch = json!({
                "metadata": {"resourceVersion": version}, "data": {(IMAGE_SETTING): image.to_string()},
            });
            let patched = api
                .patch(SETTINGS_CONFIG_MAP, &merge_parameters(), &Patch::Merge(&patch))
                .await;
            self.cluster.settings.put(patched.map_err(failed())?, settings);
            tracing::info!(%image, "the VM image is published");
        }
        Ok(())
    }
}
