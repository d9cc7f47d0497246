//! The layers this guest has, and the pulls that add to them.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use oci_spec::image::ImageConfiguration;
use peerpods_proto::registry::{ImageAccess, Secret};

use super::{
    Digest, ImageError, ImageReference,
    layer::{self, Budget},
    limits,
    manifest::{self, Descriptor, Document},
    registry::{Registry, retried},
};

/// How an image store pulls.
#[derive(Debug, Clone)]
pub struct PullSettings {
    /// Registries (host or host:port) that are talked to in plain HTTP. All others need valid TLS.
    pub insecure_registries: Vec<String>,
    /// Bytes the layers of one image may expand to.
    pub expanded_limit: u64,
    /// Time without a byte from a registry after which the transfer is given up.
    pub stall_timeout: Duration,
}

impl Default for PullSettings {
    fn default() -> Self {
        PullSettings {
            insecure_registries: Vec::new(),
            expanded_limit: limits::EXPANDED_BYTES,
            stall_timeout: limits::STALL_TIMEOUT,
        }
    }
}

/// The directory of a whole, verified, unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPath(PathBuf);

impl LayerPath {
    /// Where the layer is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// An image whose layers are all in the store.
#[derive(Debug, Clone)]
pub struct PulledImage {
    /// The image's own configuration: environment, command, user.
    pub config: ImageConfiguration,
    /// The layers, lowest first.
    pub layers: Vec<LayerPath>,
}

/// Unpacked layers under one directory, shared by all containers of the pod.
pub struct ImageStore {
    layers: PathBuf,
    incoming: PathBuf,
    settings: PullSettings,
    /// One lock for each layer that someone is pulling now.
    pulling: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl ImageStore {
    /// Makes the store's directories under `root`, and removes what an interrupted pull left.
    pub fn open(root: &Path, settings: PullSettings) -> Result<ImageStore, ImageError> {
        let layers = root.join("layers");
        let incoming = root.join("incoming");
        match fs::remove_dir_all(&incoming) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::Store {
                    action: "clear",
                    path: incoming,
                    source,
                });
            }
            _ => {}
        }
        for path in [&layers, &incoming] {
            fs::create_dir_all(path).map_err(|source| ImageError::Store {
                action: "create",
                path: path.clone(),
                source,
            })?;
        }
        Ok(ImageStore {
            layers,
            incoming,
            settings,
            pulling: Mutex::default(),
        })
    }

    /// Brings all layers of the image into the store.
    ///
    /// A layer that fails leaves nothing; layers that were whole before the failure stay for the next try.
    /// Dropping the future abandons the pull, with the same effect.
    ///
    /// Credentials are tried one after the other while the registry refuses; without any it is asked as anybody would.
    pub async fn pull(
        &self,
        reference: &ImageReference,
        access: Option<&ImageAccess>,
    ) -> Result<PulledImage, ImageError> {
        let Some(access) = access else {
            return self.pull_with(reference, None).await;
        };
        if !reference.is_in(&access.repository) {
            return Err(ImageError::ForeignCredentials {
                image: reference.to_string(),
                repository: access.repository.to_string(),
            });
        }
        let mut secrets = access.credentials.iter().map(|one| &one.secret);
        let mut outcome = self.pull_with(reference, secrets.next()).await;
        for secret in secrets {
            match &outcome {
                Err(refusal) if refusal.depends_on_credentials() => {
                    tracing::info!(%refusal, "the next credentials are tried");
                }
                Ok(_) | Err(_) => break,
            }
            outcome = self.pull_with(reference, Some(secret)).await;
        }
        outcome.map_err(|error| error.with_attempts(access))
    }

    async fn pull_with(
        &self,
        reference: &ImageReference,
        secret: Option<&Secret>,
    ) -> Result<PulledImage, ImageError> {
        let registry = Registry::connect(reference, secret, &self.settings).await?;
        let manifest = match Document::parse(reference, &registry.manifest(reference.version()).await?)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(digest) => {
                match Document::parse(reference, &registry.manifest(&digest.to_string()).await?)? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => {
                        let subject = format!("the index of {reference}");
                        return Err(ImageError::Malformed {
                            subject,
                            reason: "it leads to an index".to_owned(),
                        });
                    }
                }
            }
        };
        let config = registry.config(manifest::config_digest(&manifest)?).await?;
        let config = manifest::parse_config(reference, &config)?;
        let descriptors = manifest::layers(reference, &manifest, &config)?;
        let budget = Budget::new(self.settings.expanded_limit);
        // Each future owns its descriptor: one that borrows it could not be sent between threads.
        let layers = stream::iter(descriptors)
            .map(|descriptor| self.layer(&registry, descriptor, budget.clone()))
            .buffered(limits::PARALLEL_LAYERS)
            .try_collect()
            .await?;
        Ok(PulledImage { config, layers })
    }

    /// One layer, from the store if it is there, else from the registry; two who want it wait for one download.
    async fn layer(
        &self,
        registry: &Registry<'_>,
        descriptor: Descriptor,
        budget: Budget,
    ) -> Result<LayerPath, ImageError> {
        let path = self.layers.join(descriptor.diff_id.hex());
        let lock = self.lock(descriptor.diff_id);
        let _pulling = lock.lock().await;
        if !path.is_dir() {
            retried(|| layer::fetch(registry, &descriptor, &self.incoming, &path, budget.share())).await?;
        }
        Ok(LayerPath(path))
    }

    fn lock(&self, diff_id: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        pulling.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = pulling.get(&diff_id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        pulling.insert(diff_id, Arc::downgrade(&lock));
        lock
    }
}
