//! What the containers of a peer pod may use: exact quantities, and the annotation that carries them to the VM.
//!
//! The scheduler must not count what a peer pod uses, because its node has none of it: as the pod is created, its
//! containers' own requests and limits go into an annotation ([`PodResources`]), and within the VM they are enforced
//! ([`CgroupLimits`]). How large its emptyDir volumes may become is kept beside that ([`VolumeLimits`]).
//!
//! A crate of its own, because the webhook writes and the shim reads, and a shim, of which every pod has one, links
//! nothing of Kubernetes.

mod annotation;
mod cgroup;
mod quantity;
mod volumes;

pub use self::{
    annotation::{
        ANNOTATION, ANNOTATION_BYTES_LIMIT, AnnotationError, ContainerResources, PodResources, ResourceList,
    },
    cgroup::CgroupLimits,
    quantity::{Quantity, QuantityError},
    volumes::{VOLUMES_ANNOTATION, VolumeLimitError, VolumeLimits},
};
