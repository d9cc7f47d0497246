//! What the programs and the VM image weigh on disk.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{
    context::Context,
    row::{Goal, Row, Unit},
    samples::Samples,
};
use crate::testbed;

const MEBIBYTE: f64 = (1 << 20) as f64;

/// The VM image, the shim and the adaptor, as they were built for this run.
pub(super) fn measure(context: &Context) -> Result<Vec<Row>> {
    let (image, programs) = (testbed::image(), context.profile.folder());
    let kernel = size(&image.join("vmlinuz"))?;
    let initrd = size(&image.join("initrd.img"))?;
    let row = |name, what, bytes: f64, most| {
        Row::new(name, what, Unit::Mebibytes, Samples::one(bytes / MEBIBYTE)).goal(most)
    };
    let shim = size(&programs.join("containerd-shim-kata-v2"))?;
    let adaptor = size(&programs.join("cloud-api-adaptor"))?;
    let guest = size(&programs.join("peerpods-guest"))?;
    Ok(vec![
        row(
            "image-size",
            "VM image, kernel and initrd",
            kernel + initrd,
            Goal::AtMost(48.0),
        ),
        row("shim-size", "shim, on disk", shim, Goal::AtMost(4.0)),
        row("adaptor-size", "adaptor, on disk", adaptor, Goal::AtMost(12.0)),
        row("guest-size", "guest, on disk", guest, Goal::None),
    ])
}

fn size(file: &Path) -> Result<f64> {
    let metadata = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?;
    Ok(metadata.len() as f64)
}
