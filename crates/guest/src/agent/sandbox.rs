//! The pod in this VM: its namespaces, containers and end.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{Notify, OnceCell};

use super::{container::Container, offers::Offers};
use crate::{
    container::{ContainerId, Limits, OutOfMemory, Reaper, SandboxNamespaces, start_pod_init},
    error::GuestError,
    image::{ImageStore, PullSettings},
    scratch::Scratch,
};

/// The pod.
pub(crate) struct Sandbox {
    pub(super) scratch: Scratch,
    /// Opened with the first image, when the scratch space is ready.
    images: OnceCell<ImageStore>,
    pull_settings: PullSettings,
    pub(super) offers: Offers,
    pub(super) reaper: Reaper,
    pub(super) out_of_memory: OutOfMemory,
    pub(super) limits: Limits,
    namespaces: Mutex<Option<SandboxNamespaces>>,
    /// The pid namespace that containers share, where a container asked for it.
    pod_processes: Mutex<Option<PathBuf>>,
    containers: Mutex<BTreeMap<ContainerId, Entry>>,
    end: Notify,
}

enum Entry {
    /// Its image is being pulled, or its process made.
    Creating,
    Made(Arc<Container>),
}

/// A container's id while it is being created: free again when this is dropped without a container.
pub(super) struct Place<'a> {
    sandbox: &'a Sandbox,
    id: ContainerId,
}

impl Place<'_> {
    pub(super) fn fill(self, container: Arc<Container>) {
        self.sandbox
            .containers()
            .insert(self.id.clone(), Entry::Made(container));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut containers = self.sandbox.containers();
        if let Some(Entry::Creating) = containers.get(&self.id) {
            containers.remove(&self.id);
        }
    }
}

impl Sandbox {
    pub(crate) fn new(
        pull_settings: PullSettings,
        scratch: Scratch,
        reaper: Reaper,
        limits: Limits,
    ) -> Result<Self, GuestError> {
        Ok(Self {
            scratch,
            images: OnceCell::new(),
            pull_settings,
            offers: Offers::default(),
            reaper,
            out_of_memory: OutOfMemory::watch()?,
            pod_processes: Mutex::default(),
            limits,
            namespaces: Mutex::default(),
            containers: Mutex::default(),
            end: Notify::new(),
        })
    }

    pub(super) async fn images(&self) -> Result<&ImageStore, GuestError> {
        let open = async || {
            let space = self.scratch.space().await?;
            Ok(ImageStore::open(&space.images(), self.pull_settings.clone())?)
        };
        self.images.get_or_try_init(open).await
    }

    /// Makes what containers share; a second call is the worker's that lost the first answer.
    pub(super) fn create(&self, hostname: &str) -> Result<(), GuestError> {
        let mut namespaces = self
            .namespaces
            .lock()
            .expect("nothing panics while it holds the namespaces");
        if namespaces.is_none() {
            super::copy::prepare()?;
            *namespaces = Some(SandboxNamespaces::create(hostname)?);
        }
        Ok(())
    }

    pub(super) fn namespaces(&self) -> Result<SandboxNamespaces, GuestError> {
        let namespaces = self
            .namespaces
            .lock()
            .expect("nothing panics while it holds the namespaces")
            .clone();
        let state = "without a sandbox: CreateSandbox comes first";
        namespaces.ok_or_else(|| GuestError::WrongState {
            action: "use",
            subject: "the VM".to_owned(),
            state,
        })
    }

    /// The pid namespace of the pod, made when the first container asks for it.
    pub(super) fn pod_processes(&self) -> Result<PathBuf, GuestError> {
        let mut processes = self
            .pod_processes
            .lock()
            .expect("nothing panics while it holds the namespace");
        if let Some(path) = &*processes {
            return Ok(path.clone());
        }
        let path = start_pod_init()?;
        *processes = Some(path.clone());
        Ok(path)
    }

    pub(super) fn place(&self, id: &ContainerId) -> Result<Place<'_>, GuestError> {
        let mut containers = self.containers();
        if containers.contains_key(id) {
            return Err(GuestError::Exists(format!("container {id}")));
        }
        containers.insert(id.clone(), Entry::Creating);
        Ok(Place {
            sandbox: self,
            id: id.clone(),
        })
    }

    pub(super) fn container(&self, id: &ContainerId) -> Result<Arc<Container>, GuestError> {
        match self.containers().get(id) {
            Some(Entry::Made(container)) => Ok(container.clone()),
            Some(Entry::Creating) | None => Err(GuestError::UnknownContainer(id.clone())),
        }
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        self.containers().remove(id);
    }

    /// Asks for the VM's end.
    pub(super) fn destroy(&self) {
        self.end.notify_one();
    }

    /// Waits until the worker asks for the VM's end.
    pub(crate) async fn destroyed(&self) {
        self.end.notified().await;
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Entry>> {
        self.containers
            .lock()
            .expect("nothing panics while it holds the containers")
    }
}
