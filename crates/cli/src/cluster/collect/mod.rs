//! `peerpodctl collect`: what support asks for, in one archive.
//!
//! What cannot be had is said in the archive and on standard error, and the rest is gathered all the same. The archive has
//! its name only when it is complete; what was interrupted leaves nothing.

mod archive;
mod contents;
mod logs;
mod pods;
mod redact;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use http::Request;
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::jiff::Timestamp;
use peerpods_api::names::OPERATOR_NAMESPACE;
use serde::Serialize;
use serde_json::{Value, json};

use self::{archive::Archive, redact::Redactor};
use super::connection::{Cluster, ClusterArguments, ask};
use crate::output::{Format, Report, print};

const HELP: &str = "\
Read are: KataConfig, PeerPodConfig, PeerPods; all of the operator's namespace with its logs and events;
peer pods without their commands, arguments and environment; nodes; registrations of admission; versions.
Nothing is written to the cluster.

Values of Secrets are not in the archive, wherever they stand, nor what looks like a credential. Settings,
names and addresses are: look through it before you give it away.

Example:
  kubectl peerpods collect --file support.tar.gz";

/// Objects of one answer, and answers of one list.
const PAGE: usize = 500;
const PAGES: usize = 200;

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The archive; by default `peerpods-TIME.tar.gz`, here.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The operator's namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = OPERATOR_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What was gathered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    archive: PathBuf,
    files: usize,
    /// What could not be had, and why.
    missing: Vec<String>,
}

impl Report for Collected {
    fn text(&self) -> String {
        let missing = match self.missing.len() {
            0 => String::new(),
            count => format!("; {count} could not be had: see missing.txt in it"),
        };
        format!("{}: {} files{missing}", self.archive.display(), self.files)
    }
}

pub(crate) async fn run(arguments: Arguments, format: Format) -> Result<()> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = format!("peerpods-{time}");
    let path = arguments
        .file
        .unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    ensure!(
        !path.exists(),
        "{} exists already: name another file with --file",
        path.display()
    );
    let cluster = arguments.cluster.connect().await?;
    // Without this answer there is nothing to gather, and the reason is worth more than an archive of errors.
    let version = ask(
        "read the API server's version",
        cluster.client.apiserver_version(),
    )
    .await?;
    let archive = Archive::create(&path, &name)?;
    let mut collector = Collector {
        cluster,
        namespace: arguments.operator_namespace,
        redactor: Redactor::default(),
        archive,
        missing: Vec::new(),
        progress: Progress::new(),
    };
    collector.add_json(
        "versions",
        json!({"peerpodctl": env!("CARGO_PKG_VERSION"), "kubernetes": version}),
    )?;
    contents::gather(&mut collector).await?;
    collector.finish(path, format)
}

/// Reads, removes what is secret, and writes.
struct Collector {
    cluster: Cluster,
    /// The operator's.
    namespace: String,
    redactor: Redactor,
    archive: Archive,
    missing: Vec<String>,
    progress: Progress,
}

impl Collector {
    /// The objects of a list; empty, and noted, where it cannot be read.
    async fn list(&mut self, what: &str, path: &str) -> Vec<Value> {
        self.progress.show(what);
        match self.pages(what, path).await {
            Ok(items) => items,
            Err(error) => {
                self.misses(format!("{error:#}"));
                Vec::new()
            }
        }
    }

    async fn pages(&self, what: &str, path: &str) -> Result<Vec<Value>> {
        let (mut items, mut token) = (Vec::new(), String::new());
        let joint = if path.contains('?') { '&' } else { '?' };
        for _ in 0..PAGES {
            let request = Request::get(format!("{path}{joint}limit={PAGE}&continue={token}"));
            let request = request.body(Vec::new()).context("this is a valid request")?;
            let mut page: Value = ask(&format!("read {what}"), self.cluster.client.request(request)).await?;
            match page["items"].take() {
                Value::Array(found) => items.extend(found),
                _ => break,
            }
            // Tokens are for URLs, but for the padding of some.
            token = page["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .replace('=', "%3D");
            if token.is_empty() {
                break;
            }
        }
        Ok(items)
    }

    fn add_json(&mut self, name: &str, mut value: Value) -> Result<()> {
        self.redactor.clean(&mut value);
        let text = serde_json::to_string_pretty(&value).context("cannot write what was read as JSON")?;
        self.archive.add(&format!("{name}.json"), &text)
    }

    fn add_text(&mut self, name: &str, text: &str) -> Result<()> {
        self.archive.add(name, &self.redactor.clean_text(text))
    }

    fn misses(&mut self, what: String) {
        self.progress.say(&what);
        self.missing.push(what);
    }

    fn finish(mut self, path: PathBuf, format: Format) -> Result<()> {
        if !self.missing.is_empty() {
            let text = self.missing.join("\n");
            self.add_text("missing.txt", &format!("{text}\n"))?;
        }
        self.progress.finish();
        let files = self.archive.finish(&path)?;
        print(
            format,
            &Collected {
                archive: path,
                files,
                missing: self.missing,
            },
        )
    }
}

/// What is being read, where a person looks at it.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid");
        Self(ProgressBar::new_spinner().with_style(style))
    }

    fn show(&self, what: &str) {
        self.0.set_message(format!("reading {what}"));
        self.0.tick();
    }

    fn say(&self, what: &str) {
        self.0.suspend(|| eprintln!("missing: {what}"));
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
