//! An annotation with a pod's resources, and quantities, from anywhere: read, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerpods_resources::{CgroupLimits, PodResources, Quantity};

fuzz_target!(|text: &str| {
    let _ = text.parse::<Quantity>();
    let Ok(resources) = PodResources::parse(text) else {
        return;
    };
    for container in resources.containers.values() {
        let _ = CgroupLimits::of(container);
    }
    assert_eq!(PodResources::parse(&resources.print()).ok(), Some(resources));
});
