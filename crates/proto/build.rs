//! Generates message types and ttrpc services from `proto/`, without protoc.

use std::{env, fs, path::PathBuf};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

const PROTOS: [&str; 6] = [
    "proto/hypervisor.proto",
    "proto/types.proto",
    "proto/oci.proto",
    "proto/agent.proto",
    "proto/registry.proto",
    "proto/statistics.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    Codegen::new()
        .out_dir(&out)
        .inputs(PROTOS)
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(true).lite_runtime(true))
        .customize(Customize {
            async_all: true,
            gen_mod: true,
            ..Default::default()
        })
        .run()?;
    // `include!` refuses inner attributes, which the generator writes at the top of each file.
    for entry in fs::read_dir(&out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let kept: String = text
                .lines()
                .filter(|line| !line.starts_with("#![") && !line.starts_with("//!"))
                .map(|line| format!("{line}\n"))
                .collect();
            fs::write(&path, kept)?;
        }
    }
    PROTOS
        .iter()
        .for_each(|proto| println!("cargo:rerun-if-changed={proto}"));
    Ok(())
}
