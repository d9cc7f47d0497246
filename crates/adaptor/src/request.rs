//! What a shim asks for, parsed once.

use std::{collections::HashMap, path::PathBuf};

use peerpods_proto::hypervisor::CreateVMRequest;
use peerpods_provider::Shape;

use crate::sandbox::SandboxId;

const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";
const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
/// Only our own shim sends it.
const SANDBOX_UID: &str = "io.kubernetes.cri.sandbox-uid";
const MACHINE_TYPE: &str = "io.katacontainers.config.hypervisor.machine_type";
const IMAGE: &str = "io.katacontainers.config.hypervisor.image";
const VCPUS: &str = "io.katacontainers.config.hypervisor.default_vcpus";
const MEMORY: &str = "io.katacontainers.config.hypervisor.default_memory";
const GPUS: &str = "io.katacontainers.config.hypervisor.default_gpus";

/// Names of Kubernetes objects are not longer.
const NAME_LIMIT: usize = 253;
/// Names of instance types and images are not longer anywhere.
const KIND_LIMIT: usize = 128;
/// PATH_MAX of linux/limits.h.
const PATH_LIMIT: usize = 4096;

/// A field of a request that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct InvalidRequest {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

/// A request for a VM.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CreateVm {
    pub(crate) sandbox: SandboxId,
    pub(crate) netns: PathBuf,
    pub(crate) pod_name: String,
    pub(crate) pod_namespace: String,
    pub(crate) pod_uid: Option<String>,
    pub(crate) shape: Shape,
}

impl CreateVm {
    /// Reads a shim's request; the annotations that stock shims leave empty or at "0" are unset.
    pub(crate) fn parse(request: &CreateVMRequest) -> Result<Self, InvalidRequest> {
        let annotations = Annotations(&request.annotations);
        let netns = &request.networkNamespacePath;
        if !netns.starts_with('/') || netns.len() > PATH_LIMIT {
            return Err(InvalidRequest {
                field: "networkNamespacePath",
                problem: format!("{netns:?} is no absolute path"),
            });
        }
        Ok(Self {
            sandbox: sandbox_id(&request.id)?,
            netns: PathBuf::from(netns),
            pod_name: annotations.required(SANDBOX_NAME)?,
            pod_namespace: annotations.required(SANDBOX_NAMESPACE)?,
            pod_uid: annotations.text(SANDBOX_UID, NAME_LIMIT)?,
            shape: Shape {
                vcpus: annotations.number(VCPUS)?,
                memory_mib: annotations.number(MEMORY)?,
                gpus: annotations.number(GPUS)?,
                machine_type: annotations.text(MACHINE_TYPE, KIND_LIMIT)?,
                image: annotations.text(IMAGE, KIND_LIMIT)?,
            },
        })
    }
}

/// Reads a sandbox id.
pub(crate) fn sandbox_id(text: &str) -> Result<SandboxId, InvalidRequest> {
    let parsed = SandboxId::try_from(text.to_owned());
    parsed.map_err(|error| InvalidRequest {
        field: "id",
        problem: error.to_string(),
    })
}

struct Annotations<'a>(&'a HashMap<String, String>);

impl Annotations<'_> {
    fn text(&self, key: &'static str, limit: usize) -> Result<Option<String>, InvalidRequest> {
        match self.0.get(key).map(|text| text.trim()) {
            None | Some("") => Ok(None),
            Some(text) if text.len() > limit || text.chars().any(char::is_control) => Err(InvalidRequest {
                field: key,
                problem: format!("it is no name of at most {limit} characters"),
            }),
            Some(text) => Ok(Some(text.to_owned())),
        }
    }

    fn required(&self, key: &'static str) -> Result<String, InvalidRequest> {
        let missing = || InvalidRequest {
            field: key,
            problem: "it is missing".to_owned(),
        };
        self.text(key, NAME_LIMIT)?.ok_or_else(missing)
    }

    /// A count; stock shims write 0 for "none given".
    fn number(&self, key: &'static str) -> Result<Option<u32>, InvalidRequest> {
        let Some(text) = self.text(key, NAME_LIMIT)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(0) => Ok(None),
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(InvalidRequest {
                field: key,
                problem: format!("{text:?} is no whole number"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(changes: &[(&str, &str)]) -> CreateVMRequest {
        let mut annotations: HashMap<String, String> = [SANDBOX_NAME, SANDBOX_NAMESPACE]
            .map(|key| (key.to_owned(), "web".to_owned()))
            .into();
        annotations.extend(
            changes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        CreateVMRequest {
            id: "ab".repeat(32),
            annotations,
            networkNamespacePath: "/run/netns/cni-1".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn what_a_stock_shim_sends_without_limits_asks_for_the_defaults() {
        let unset = [
            (MACHINE_TYPE, ""),
            (IMAGE, ""),
            (VCPUS, "0"),
            (MEMORY, "0"),
            (GPUS, "0"),
        ];
        let parsed = CreateVm::parse(&request(&unset)).unwrap();
        assert_eq!(parsed.shape, Shape::default());
        assert_eq!((parsed.pod_name.as_str(), parsed.pod_uid), ("web", None));
    }

    #[test]
    fn a_size_is_read() {
        let parsed =
            CreateVm::parse(&request(&[(VCPUS, "2"), (MEMORY, "512"), (SANDBOX_UID, "u-1")])).unwrap();
        assert_eq!(
            (parsed.shape.vcpus, parsed.shape.memory_mib),
            (Some(2), Some(512))
        );
        assert_eq!(parsed.pod_uid.as_deref(), Some("u-1"));
    }

    #[test]
    fn an_error_names_the_field() {
        let field = |request: &CreateVMRequest| CreateVm::parse(request).unwrap_err().field;
        assert_eq!(field(&request(&[(VCPUS, "many")])), VCPUS);
        assert_eq!(field(&request(&[(SANDBOX_NAME, "")])), SANDBOX_NAME);
        assert_eq!(field(&request(&[(IMAGE, &"x".repeat(500))])), IMAGE);
        assert_eq!(
            field(&CreateVMRequest {
                id: "../etc".to_owned(),
                ..request(&[])
            }),
            "id"
        );
        let relative = CreateVMRequest {
            networkNamespacePath: "netns".to_owned(),
            ..request(&[])
        };
        assert_eq!(field(&relative), "networkNamespacePath");
    }
}
