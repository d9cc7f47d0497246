//! What a VM image says of its disk and its processors.

use std::{collections::BTreeMap, sync::Arc};

use peerpods_aws::{Ec2, Parameters};
use peerpods_provider::ProviderError;
use tokio::sync::Mutex;

use crate::{answers::ImageView, error::during, settings::is_image, types::Architecture};

/// The most images that are remembered: a cluster uses a few. The oldest knowledge is no worse than new, since an image
/// never changes.
const REMEMBERED: usize = 64;

/// What a launch needs to know of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) architecture: Architecture,
    pub(crate) root_device: String,
    pub(crate) root_gib: u32,
}

impl Image {
    fn new(id: &str, view: &ImageView) -> Result<Self, ProviderError> {
        let unusable = |what: &str| ProviderError::InvalidRequest(format!("VM image {id} {what}"));
        let architecture = match view.architecture.as_deref() {
            // Images from before there was another are for this one.
            None => Architecture::X86,
            Some(name) => Architecture::of_name(name)
                .ok_or_else(|| unusable(&format!("is for {name}, which no peer pod VM is")))?,
        };
        let root_device = view
            .root_device_name
            .clone()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| unusable("has no root device"))?;
        let root = view
            .block_device_mapping
            .items
            .iter()
            .find(|device| device.device_name == root_device)
            .and_then(|device| device.ebs.as_ref())
            .ok_or_else(|| unusable("has no snapshot for its root device"))?;
        Ok(Self {
            id: id.to_owned(),
            architecture,
            root_device,
            root_gib: root.volume_size.unwrap_or(0),
        })
    }
}

/// The images that were asked for.
#[derive(Debug, Default)]
pub(crate) struct ImageCache {
    known: Mutex<BTreeMap<String, Arc<Image>>>,
}

impl ImageCache {
    /// What EC2 says of the image; it is asked once.
    ///
    /// # Errors
    /// [`ProviderError::InvalidRequest`]: there is none, or no VM can be made of it.
    pub(crate) async fn get(&self, ec2: &Ec2, id: &str) -> Result<Arc<Image>, ProviderError> {
        if !is_image(id) {
            return Err(ProviderError::InvalidRequest(format!(
                "{id:?} is no VM image of EC2: one is named like ami-0123abcd"
            )));
        }
        // Several launches with a new image wait for one question.
        let mut known = self.known.lock().await;
        if let Some(image) = known.get(id) {
            return Ok(image.clone());
        }
        let mut parameters = Parameters::new();
        parameters.set_list("ImageId", [id]);
        let found = ec2.list::<ImageView>(&parameters).await;
        let found = found.map_err(during("find the VM image", id))?;
        let view = found.first().ok_or_else(|| {
            ProviderError::InvalidRequest(format!("there is no VM image {id} in this region"))
        })?;
        let image = Arc::new(Image::new(id, view)?);
        if known.len() >= REMEMBERED {
            known.pop_first();
        }
        known.insert(id.to_owned(), image.clone());
        Ok(image)
    }
}
