//! The logs of the operator's namespace: of containers as they run, and as they ran before they were restarted.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use serde_json::Value;

use super::{super::connection::ask, Collector};

/// Of one container: days of an ordinary one, and an archive that can be sent by mail.
const BYTES: i64 = 4 * 1024 * 1024;
const LINES: i64 = 20_000;
/// Pods whose logs are read: an operator, webhooks, and the daemons of a large cluster.
const PODS: usize = 500;

pub(super) async fn gather(collector: &mut Collector, pods: &[Value]) -> Result<()> {
    if pods.len() > PODS {
        collector.misses(format!(
            "logs of {} pods: only those of {PODS} are read",
            pods.len() - PODS
        ));
    }
    for pod in pods.iter().take(PODS) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let status = &pod["status"];
        let statuses = ["initContainerStatuses", "containerStatuses"]
            .iter()
            .filter_map(|key| status[*key].as_array())
            .flatten();
        for container in statuses {
            let container_name = container["name"].as_str().unwrap_or_default();
            if container["restartCount"].as_u64().unwrap_or_default() > 0 {
                log(collector, name, container_name, true).await?;
            }
            if container["state"]["waiting"].is_null() {
                log(collector, name, container_name, false).await?;
            }
        }
    }
    Ok(())
}

async fn log(collector: &mut Collector, pod: &str, container: &str, previous: bool) -> Result<()> {
    let what = if previous {
        format!("logs of container {container} of pod {pod}, before its restart")
    } else {
        format!("logs of container {container} of pod {pod}")
    };
    collector.progress.show(&what);
    let api: Api<Pod> = collector.cluster.api(Some(&collector.namespace));
    let parameters = LogParams {
        container: Some(container.to_owned()),
        limit_bytes: Some(BYTES),
        tail_lines: Some(LINES),
        timestamps: true,
        previous,
        ..LogParams::default()
    };
    match ask(&format!("read {what}"), api.logs(pod, &parameters)).await {
        Ok(text) => {
            let suffix = if previous { ".previous" } else { "" };
            collector.add_text(&format!("logs/{pod}/{container}{suffix}.log"), &text)
        }
        Err(error) => {
            collector.misses(format!("{error:#}"));
            Ok(())
        }
    }
}
