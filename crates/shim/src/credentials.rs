//! Registry credentials on their way from the adaptor to the guest, for one image pull.

use peerpods_proto::registry::{ImageAccess, Repository};

use crate::{error::Error, sandbox::Sandbox};

/// Has the adaptor look for what the pod has for the image's registry, and gives it to the guest. What cannot be found is no
/// failure: the guest tries without, and says so if the registry refuses.
pub(crate) async fn hand_over(sandbox: &Sandbox, container: &str, image: &str) -> Result<(), Error> {
    let access = match sandbox.hypervisor.find_credentials(sandbox.id(), image).await {
        Ok(Some(access)) => access,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!(
                container,
                error = error.chain(),
                "the image is pulled without credentials"
            );
            // What names no repository names no image either, which the guest will say.
            let Ok(repository) = Repository::of_image(image) else {
                return Ok(());
            };
            let nothing = ImageAccess {
                repository,
                credentials: Vec::new(),
                remarks: vec![error.chain()],
            };
            nothing.into_wire()
        }
    };
    sandbox.agent()?.offer_credentials(container, access).await
}
