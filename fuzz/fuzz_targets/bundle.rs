//! A bundle's `config.json`, and the process of an `exec`: whatever they hold becomes a message for the guest or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerpods_proto::spec::{process_from_json, resources_from_json, spec_from_json, spec_from_wire};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(spec) = spec_from_json(bytes) {
        let _ = spec_from_wire(&spec);
    }
    let _ = process_from_json(bytes);
    let _ = resources_from_json(bytes);
});
