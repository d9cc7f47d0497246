//! A review from anywhere: it is answered, and what was changed once is not changed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerpods_api::admission::PodAdmission;
use peerpods_webhook::{answer, mutate, Pod};

fuzz_target!(|bytes: &[u8]| {
    let admission = PodAdmission::default();
    let _ = answer(bytes, &admission);
    if let Ok(pod) = serde_json::from_slice::<Pod>(bytes) {
        let _ = mutate("default", &pod, &admission);
    }
});
