//! User data from anywhere: it is parsed, or refused with an error that names the field.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerpods_proto::payload::{BootPayload, UserData};

fuzz_target!(|bytes: &[u8]| {
    let _ = UserData::parse(bytes);
    // What a claim carries.
    let _ = BootPayload::parse(bytes);
});
