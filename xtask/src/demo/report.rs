//! The table at the end: where the time went, and what the parts weigh.

use std::{fmt, time::Duration};

use anyhow::{Context, Result};

use super::bed::Bed;

/// Time by stage, memory and sizes of one pod.
pub(super) struct Report {
    stages: Vec<(String, Duration)>,
    sizes: Vec<(String, String)>,
}

/// Reads the timeline that adaptor and shim wrote, and weighs their processes.
pub(super) fn measure(bed: &Bed, sandbox: &str, created: Duration) -> Result<Report> {
    let timeline = bed.on_node(&["cat", &format!("/run/peerpod/pods/{sandbox}/timeline")])?;
    let mut stages = timeline
        .lines()
        .map(|line| {
            let (nanoseconds, stage) = line
                .split_once(' ')
                .context("a line of the timeline has no stage")?;
            let at = Duration::from_nanos(nanoseconds.parse().context("a time is no number")?);
            Ok((stage.to_owned(), at.saturating_sub(created)))
        })
        .collect::<Result<Vec<_>>>()?;
    stages.sort_by_key(|(_, at)| *at);
    let guest = bed.kubectl(&["exec", "demo", "--container", "web", "--", "free", "-k"])?;
    let used = guest
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(2))
        .unwrap_or("?");
    let sizes = vec![
        (
            "shim, resident".to_owned(),
            resident(bed, "containerd-shim-kata-v2")?,
        ),
        (
            "adaptor, resident".to_owned(),
            resident(bed, "cloud-api-adaptor")?,
        ),
        (
            "guest, memory in use with two containers".to_owned(),
            mebibytes(used),
        ),
        ("VM image, kernel and initrd".to_owned(), image_size(bed)?),
    ];
    Ok(Report { stages, sizes })
}

/// The resident set of the newest process of that name.
fn resident(bed: &Bed, program: &str) -> Result<String> {
    let script = format!(
        "for p in $(pgrep -nf '/{program}( |$)'); do grep VmRSS /proc/$p/status | grep -o '[0-9]*'; done"
    );
    Ok(mebibytes(&bed.on_node(&["sh", "-c", &script])?))
}

fn image_size(bed: &Bed) -> Result<String> {
    let script = "cat \"$PEERPODS_IMAGE\"/vmlinuz \"$PEERPODS_IMAGE\"/initrd.img | wc -c";
    let bytes: u64 = bed
        .on_node(&["sh", "-c", script])?
        .trim()
        .parse()
        .context("the image's size is no number")?;
    Ok(mebibytes(&(bytes / 1024).to_string()))
}

fn mebibytes(kibibytes: &str) -> String {
    kibibytes.parse::<f64>().map_or_else(
        |_| "?".to_owned(),
        |kibibytes| format!("{:.1} MiB", kibibytes / 1024.0),
    )
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<44} {:>10} {:>10}", "stage", "at", "took")?;
        let mut before = Duration::ZERO;
        for (stage, at) in &self.stages {
            let took = at.saturating_sub(before);
            writeln!(
                formatter,
                "{stage:<44} {:>8.3} s {:>8.3} s",
                at.as_secs_f64(),
                took.as_secs_f64()
            )?;
            before = *at;
        }
        writeln!(formatter)?;
        for (what, size) in &self.sizes {
            writeln!(formatter, "{what:<44} {size:>10}")?;
        }
        Ok(())
    }
}
