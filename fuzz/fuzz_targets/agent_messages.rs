//! A message from a worker: whatever container it asks for becomes a spec or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerpods_proto::{agent::CreateContainerRequest, spec::spec_from_wire};
use protobuf::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = CreateContainerRequest::parse_from_bytes(bytes)
        && let Some(spec) = request.OCI.as_ref()
    {
        let _ = spec_from_wire(spec);
    }
});
