//! The provider that the settings ask for.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use peerpods_provider::{Provider, ProviderError};
use peerpods_provider_aws::{AwsArguments, AwsProvider, Timing};
use peerpods_provider_namespaces::{NamespacesProvider, NamespacesSettings};
use peerpods_provider_qemu::{NodePlacement, Placement, QemuProvider, QemuSettings, ScratchSettings};

use crate::settings::{CloudProvider, QemuPlacement, Resume, Settings};

/// How often the provider looks whether what it has prepared is still what is needed: an image may be replaced at any time.
const PREPARATION_INTERVAL: Duration = Duration::from_secs(30);

/// Has the provider prepare what the first pod should not wait for.
async fn keep_prepared(provider: Arc<QemuProvider>) {
    loop {
        if let Err(error) = provider.prepare().await {
            tracing::warn!(
                error = peerpods_error::chain(&error),
                "VMs start later than they could, or not at all"
            );
        }
        tokio::time::sleep(PREPARATION_INTERVAL).await;
    }
}

/// Makes the provider; a setting that contradicts another is an error now, not with the first pod.
pub(crate) async fn choose(settings: &Settings) -> Result<Arc<dyn Provider>, ProviderError> {
    match settings.cloud_provider {
        CloudProvider::Aws => {
            let settings = AwsArguments::from_environment().parse();
            let settings = settings.map_err(|error| ProviderError::InvalidRequest(error.to_string()))?;
            Ok(Arc::new(AwsProvider::connect(settings, Timing::default()).await?))
        }
        CloudProvider::Qemu => {
            let arguments = settings.qemu.clone();
            let directory = arguments.scratch_dir;
            let scratch = NonZeroU32::new(arguments.scratch_size)
                .map(|size_gib| ScratchSettings { directory, size_gib });
            let provider = Arc::new(QemuProvider::new(QemuSettings {
                state_dir: arguments.state,
                kernel: arguments.kernel,
                initrd: arguments.initrd,
                images_dir: arguments.images,
                bridge: arguments.bridge,
                pool: arguments.address_pool,
                prefix_length: arguments.prefix_length,
                gateway: arguments.gateway,
                mtu: arguments.mtu,
                accelerator: arguments.accelerator,
                default_vcpus: arguments.vcpus,
                default_memory_mib: arguments.memory,
                scratch,
                template_dir: match arguments.resume {
                    Resume::On => Some(arguments.template_dir),
                    Resume::Off => None,
                },
                binary: arguments.binary,
                placement: match arguments.placement {
                    QemuPlacement::Here => Placement::Here,
                    QemuPlacement::Node => Placement::Node(NodePlacement {
                        cgroup: arguments.cgroup,
                    }),
                },
            })?);
            tokio::spawn(keep_prepared(provider.clone()));
            Ok(provider)
        }
        CloudProvider::Namespaces => {
            let arguments = settings.namespaces.clone();
            Ok(Arc::new(NamespacesProvider::new(NamespacesSettings {
                state_dir: arguments.state,
                cgroup: arguments.cgroup,
                guest: arguments.guest,
                launcher: arguments.launcher,
                bridge: arguments.bridge,
                pool: arguments.address_pool,
                prefix_length: arguments.prefix_length,
                gateway: arguments.gateway,
                mtu: arguments.mtu,
            })?))
        }
    }
}
