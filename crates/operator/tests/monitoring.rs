//! What administrators watch: that the figures are described, and that dashboard and alerts ask for figures that there are.
//!
//! After a change of figures, run this with `PEERPODS_WRITE_METRICS=1`: it writes docs/metrics.md.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use peerpods_operator::metrics::{Metrics, NodeRoom};
use serde_json::{Value, json};

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// One figure: its name, kind and meaning.
struct Figure {
    name: String,
    kind: String,
    meaning: String,
}

impl Figure {
    /// The names under which Prometheus keeps it.
    fn series(&self) -> Vec<String> {
        let name = &self.name;
        match self.kind.as_str() {
            "counter" => vec![format!("{name}_total")],
            "histogram" => ["_bucket", "_sum", "_count"]
                .map(|end| format!("{name}{end}"))
                .to_vec(),
            _ => vec![name.clone()],
        }
    }
}

/// All figures of a program.
fn figures(text: &str) -> Vec<Figure> {
    let about = |what: &str, name: &str| {
        let line = format!("# {what} {name} ");
        let found = text.lines().find_map(|one| one.strip_prefix(&line));
        found.unwrap_or_default().to_owned()
    };
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    names
        .map(|name| Figure {
            name: name.to_owned(),
            kind: about("TYPE", name),
            meaning: about("HELP", name).trim_end_matches('.').to_owned(),
        })
        .collect()
}

fn programs() -> [(&'static str, Vec<Figure>); 3] {
    let operator = Metrics::default();
    // Figures by node are there with the first node.
    operator.sees_room([NodeRoom {
        node: "one".to_owned(),
        capacity: 10,
        machines: 0,
    }]);
    [
        ("cloud-api-adaptor", figures(&peerpods_adaptor::metrics())),
        ("peerpods-operator", figures(&operator.text())),
        ("peerpods-webhook", figures(&peerpods_webhook::metrics())),
    ]
}

#[test]
fn the_document_has_every_figure() {
    let mut text =
        "# Metrics\n\nWhat each program answers on `/metrics`, as OpenMetrics. Written by a test of it \
                    (`crates/operator/tests/monitoring.rs`).\n"
            .to_owned();
    for (program, figures) in programs() {
        assert!(!figures.is_empty(), "{program}");
        write!(
            text,
            "\n## {program}\n\n| series | kind | meaning |\n|---|---|---|\n"
        )
        .unwrap();
        for figure in figures {
            assert!(!figure.meaning.is_empty(), "{}", figure.name);
            let series = figure.series().join("`, `");
            writeln!(text, "| `{series}` | {} | {} |", figure.kind, figure.meaning).unwrap();
        }
    }
    let path = at("docs/metrics.md");
    if env::var_os("PEERPODS_WRITE_METRICS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        text,
        "docs/metrics.md is not current"
    );
}

/// The texts of all queries of the dashboard, as Grafana would send them.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_slice(&fs::read(at("deploy/monitoring/dashboard.json")).unwrap()).unwrap();
    let targets = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "5m"))
        .collect()
}

#[test]
fn dashboard_and_alerts_ask_for_figures_that_there_are() {
    let known: BTreeSet<String> = programs()
        .iter()
        .flat_map(|(_, figures)| figures.iter().flat_map(Figure::series))
        .collect();
    let alerts: Value =
        serde_saphyr::from_str(&fs::read_to_string(at("deploy/monitoring/alerts.yaml")).unwrap()).unwrap();
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    let alerts = rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let name = regex::Regex::new("peerpods_[a-z_]+").unwrap();
    let mut asked = BTreeSet::new();
    for query in dashboard_queries().into_iter().chain(alerts) {
        let names: Vec<_> = name
            .find_iter(&query)
            .map(|found| found.as_str().to_owned())
            .collect();
        assert!(!names.is_empty() || query.starts_with("up{"), "{query}");
        asked.extend(names);
    }
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(unknown.is_empty(), "nothing tells {unknown:?}");
}

/// Prometheus' own tool, which `make test` unpacks.
fn promtool(arguments: &[&str]) {
    let program = env::var("PEERPODS_TEST_PROMTOOL").expect("make test says where promtool is");
    let output = Command::new(program)
        .args(arguments)
        .current_dir(at("deploy/monitoring"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn prometheus_takes_alerts_and_queries_and_alerts_fire_as_shown() {
    promtool(&["check", "rules", "alerts.yaml"]);
    promtool(&["test", "rules", "alerts-test.yaml"]);
    let rules: Vec<_> = dashboard_queries()
        .into_iter()
        .enumerate()
        .map(|(number, query)| json!({"record": format!("panel:query:{number}"), "expr": query}))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.yaml");
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&path, groups.to_string()).unwrap();
    promtool(&["check", "rules", &path.display().to_string()]);
}
