//! A container's requests and limits as those of a control group, as the kubelet computes them.

use crate::{ContainerResources, Quantity, QuantityError, ResourceList};

/// The kubelet's own, in microseconds.
const CPU_PERIOD_MICROSECONDS: u64 = 100_000;
/// The kernel takes no smaller quota.
const LEAST_CPU_QUOTA_MICROSECONDS: u64 = 1000;
/// The shares of one CPU, and the least and most that the kernel takes.
const SHARES_PER_CPU: u128 = 1024;
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;
/// The thousandths in a whole.
const THOUSANDTHS: u128 = 1000;

/// The limits of one container's control group; what is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Bytes of memory beyond which the container's processes are killed.
    pub memory_limit_bytes: Option<i64>,
    /// Microseconds of CPU time in each period.
    pub cpu_quota_microseconds: Option<i64>,
    /// The period's length in microseconds, where there is a quota.
    pub cpu_period_microseconds: Option<u64>,
    /// The container's weight among others that want the CPUs; 1024 for each CPU that it asks for.
    pub cpu_shares: Option<u64>,
}

impl CgroupLimits {
    /// What the kubelet would set for a container.
    ///
    /// # Errors
    /// [`QuantityError`]: the annotation was written by somebody who is not the webhook.
    pub fn of(container: &ContainerResources) -> Result<Self, QuantityError> {
        let memory = read(&container.limits, "memory")?;
        let cpu_limit = read(&container.limits, "cpu")?;
        let cpu_request = read(&container.requests, "cpu")?.or(cpu_limit);
        let quota = cpu_limit.map(quota);
        Ok(Self {
            memory_limit_bytes: memory.map(|limit| i64::try_from(limit.whole_units()).unwrap_or(i64::MAX)),
            cpu_quota_microseconds: quota,
            cpu_period_microseconds: quota.map(|_| CPU_PERIOD_MICROSECONDS),
            cpu_shares: cpu_request.map(shares),
        })
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A resource's quantity; zero is no limit and no request, as everywhere in Kubernetes.
fn read(list: &ResourceList, name: &str) -> Result<Option<Quantity>, QuantityError> {
    let quantity: Option<Quantity> = list.get(name).map(|text| text.parse()).transpose()?;
    Ok(quantity.filter(|quantity| *quantity > Quantity::ZERO))
}

fn quota(limit: Quantity) -> i64 {
    let microseconds = limit.whole_thousandths() * u128::from(CPU_PERIOD_MICROSECONDS) / THOUSANDTHS;
    let bounded = microseconds.max(LEAST_CPU_QUOTA_MICROSECONDS.into());
    i64::try_from(bounded).unwrap_or(i64::MAX)
}

fn shares(request: Quantity) -> u64 {
    let shares = request.whole_thousandths() * SHARES_PER_CPU / THOUSANDTHS;
    u64::try_from(shares)
        .unwrap_or(MOST_SHARES)
        .clamp(LEAST_SHARES, MOST_SHARES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> CgroupLimits {
        CgroupLimits::of(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn they_are_the_kubelets() {
        let limits = limits(r#"{"limits":{"cpu":"1500m","memory":"64Mi"},"requests":{"cpu":"250m"}}"#);
        assert_eq!(limits.memory_limit_bytes, Some(64 << 20));
        assert_eq!(limits.cpu_quota_microseconds, Some(150_000));
        assert_eq!(limits.cpu_period_microseconds, Some(100_000));
        assert_eq!(limits.cpu_shares, Some(256));
    }

    #[test]
    fn a_limit_alone_is_a_request_too_and_zero_is_neither() {
        assert_eq!(limits(r#"{"limits":{"cpu":"2"}}"#).cpu_shares, Some(2048));
        assert!(limits(r#"{"limits":{"cpu":"0","memory":"0"},"requests":{"cpu":"0"}}"#).is_empty());
        assert!(limits(r#"{"limits":{"nvidia.com/gpu":"1"}}"#).is_empty());
    }

    #[test]
    fn the_kernels_bounds_are_kept() {
        let least = limits(r#"{"limits":{"cpu":"1m","memory":"1m"}}"#);
        assert_eq!(
            (least.cpu_quota_microseconds, least.cpu_shares),
            (Some(1000), Some(2))
        );
        assert_eq!(least.memory_limit_bytes, Some(1));
        let most = limits(r#"{"limits":{"cpu":"9E","memory":"7Ei"}}"#);
        assert_eq!(most.cpu_shares, Some(262_144));
        assert_eq!(most.cpu_quota_microseconds, Some(i64::MAX));
    }
}
