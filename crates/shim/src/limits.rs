//! The containers' own limits, which the webhook took out of the pod and kept in an annotation: set again in the guest.

use peerpods_proto::oci;
use peerpods_resources::{ANNOTATION, CgroupLimits, PodResources, VOLUMES_ANNOTATION, VolumeLimits};

use crate::error::Error;

/// What the pod says of itself, which the node's container runtime is not told.
#[derive(Debug, Default)]
pub(crate) struct PodLimits {
    /// What the pod's containers asked for and may use.
    pub(crate) resources: PodResources,
    /// How large its emptyDir volumes may become.
    pub(crate) volumes: VolumeLimits,
}

/// What a sandbox's annotations have of that; nothing where no webhook changed the pod.
///
/// # Errors
/// [`Error::Invalid`]: an annotation cannot be read. It is the pod's user who sees the message.
pub(crate) fn of_pod(sandbox: &oci::Spec) -> Result<PodLimits, Error> {
    let mut limits = PodLimits::default();
    if let Some(text) = sandbox.Annotations.get(ANNOTATION) {
        limits.resources = PodResources::parse(text).map_err(invalid(ANNOTATION))?;
    }
    if let Some(text) = sandbox.Annotations.get(VOLUMES_ANNOTATION) {
        limits.volumes = VolumeLimits::parse(text).map_err(invalid(VOLUMES_ANNOTATION))?;
    }
    Ok(limits)
}

/// Sets the limits of the container `name` in its spec, over those that the kubelet computed from an empty pod.
pub(crate) fn set(resources: &PodResources, name: &str, guest: &mut oci::Spec) -> Result<(), Error> {
    let Some(own) = resources.containers.get(name) else {
        return Ok(());
    };
    let limits = CgroupLimits::of(own).map_err(invalid(ANNOTATION))?;
    if limits.is_empty() {
        return Ok(());
    }
    let linux = guest.Linux.mut_or_insert_default();
    let resources = linux.Resources.mut_or_insert_default();
    if let Some(bytes) = limits.memory_limit_bytes {
        let memory = resources.Memory.mut_or_insert_default();
        memory.Limit = bytes;
        // The limit of memory and swap together cannot be the smaller one.
        memory.Swap = 0;
    }
    let cpu = resources.CPU.mut_or_insert_default();
    if let (Some(quota), Some(period)) = (limits.cpu_quota_microseconds, limits.cpu_period_microseconds) {
        cpu.Quota = quota;
        cpu.Period = period;
    }
    if let Some(shares) = limits.cpu_shares {
        cpu.Shares = shares;
    }
    Ok(())
}

/// For use with `map_err`: an annotation, or something in it, that cannot be read.
pub(crate) fn invalid<E: std::error::Error>(annotation: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Invalid {
        field: annotation,
        problem: peerpods_error::chain(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(text: &str) -> oci::Spec {
        let mut spec = oci::Spec::default();
        spec.Annotations.insert(ANNOTATION.to_owned(), text.to_owned());
        spec
    }

    #[test]
    fn a_containers_own_limits_replace_those_of_the_emptied_pod() {
        let pod = annotated(
            r#"{"containers":{"web":{"limits":{"cpu":"500m","memory":"64Mi"},"requests":{"cpu":"250m"}}}}"#,
        );
        let resources = of_pod(&pod).unwrap().resources;
        let mut guest = oci::Spec::default();
        guest
            .Linux
            .mut_or_insert_default()
            .Resources
            .mut_or_insert_default()
            .CPU
            .mut_or_insert_default()
            .Shares = 2;
        let untouched = guest.clone();
        set(&resources, "other", &mut guest).unwrap();
        assert_eq!(guest, untouched);
        set(&resources, "web", &mut guest).unwrap();
        let set = &guest.Linux.Resources;
        assert_eq!(set.Memory.Limit, 64 << 20);
        assert_eq!(
            (set.CPU.Quota, set.CPU.Period, set.CPU.Shares),
            (50_000, 100_000, 256)
        );
    }

    #[test]
    fn a_request_alone_limits_nothing() {
        let resources = of_pod(&annotated(
            r#"{"containers":{"web":{"requests":{"cpu":"2","memory":"1Gi"}}}}"#,
        ))
        .unwrap()
        .resources;
        let mut guest = oci::Spec::default();
        set(&resources, "web", &mut guest).unwrap();
        let set = &guest.Linux.Resources;
        assert_eq!(
            (set.CPU.Quota, set.CPU.Shares, set.Memory.is_none()),
            (0, 2048, true)
        );
    }

    #[test]
    fn an_annotation_that_cannot_be_read_is_named() {
        let refused = of_pod(&annotated("cpu=2")).unwrap_err().to_string();
        assert!(refused.starts_with("kata.peerpods.io/resources: "), "{refused}");
        let pod = annotated(r#"{"containers":{"web":{"limits":{"cpu":"two"}}}}"#);
        let resources = of_pod(&pod).unwrap().resources;
        let refused = set(&resources, "web", &mut oci::Spec::default())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("\"two\" is not a quantity"), "{refused}");
    }
}
