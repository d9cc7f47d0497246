//! The API server, spoken to directly: starting kubectl takes longer than what is measured.
//!
//! `kubectl proxy` carries plain HTTP on a socket to the API server. Requests are of HTTP 1.0, so that an answer ends
//! with its connection and a watch is lines as they come.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Where pods are made.
const PODS: &str = "/api/v1/namespaces/default/pods";
/// The proxy listens within a fraction of a second.
const PROXY_LIMIT: Duration = Duration::from_secs(10);
const PROXY_INTERVAL: Duration = Duration::from_millis(20);
/// The longest silence of a watch; a VM under emulation starts in seconds.
const WATCH_LIMIT: Duration = Duration::from_secs(120);

/// The API server.
pub(super) struct Api {
    proxy: Child,
    socket: PathBuf,
}

/// Changes of one pod, as they come.
pub(super) struct Watch(BufReader<UnixStream>);

/// An answer's status and body.
struct Answer {
    status: u16,
    body: BufReader<UnixStream>,
}

impl Api {
    pub(super) fn open() -> Result<Self> {
        let socket = PathBuf::from(format!("/run/bench-{}.sock", std::process::id()));
        let proxy = Command::new("kubectl")
            .args(["proxy", "--unix-socket"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start kubectl proxy")?;
        let api = Self { proxy, socket };
        let start = Instant::now();
        while UnixStream::connect(&api.socket).is_err() {
            ensure!(start.elapsed() < PROXY_LIMIT, "kubectl proxy does not listen");
            sleep(PROXY_INTERVAL);
        }
        Ok(api)
    }

    /// Makes a pod.
    pub(super) fn create_pod(&self, pod: &Value) -> Result<()> {
        self.request("POST", PODS, &pod.to_string())?
            .read(&[201])
            .map(drop)
    }

    /// Asks for a pod's end.
    pub(super) fn delete_pod(&self, name: &str) -> Result<()> {
        let path = format!("{PODS}/{name}?gracePeriodSeconds=0");
        // Not there is what is wanted.
        self.request("DELETE", &path, "")?
            .read(&[200, 202, 404])
            .map(drop)
    }

    /// The pod, if it is there.
    pub(super) fn pod(&self, name: &str) -> Result<Option<Value>> {
        let answer = self.request("GET", &format!("{PODS}/{name}"), "")?;
        if answer.status == 404 {
            return Ok(None);
        }
        let text = answer.read(&[200])?;
        serde_json::from_str(&text)
            .map(Some)
            .context("the API server's pod is not JSON")
    }

    /// The names of all pods with a label.
    pub(super) fn pods_with(&self, label: &str) -> Result<Vec<String>> {
        let text = self
            .request("GET", &format!("{PODS}?labelSelector={label}"), "")?
            .read(&[200])?;
        let list: Value = serde_json::from_str(&text).context("the API server's list is not JSON")?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .iter()
            .filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// Watches one pod, also before it is there.
    pub(super) fn watch(&self, name: &str) -> Result<Watch> {
        let path = format!("{PODS}?watch=1&fieldSelector=metadata.name%3D{name}");
        let answer = self.request("GET", &path, "")?;
        ensure!(
            answer.status == 200,
            "the API server answers a watch with {}",
            answer.status
        );
        Ok(Watch(answer.body))
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket).context("cannot reach kubectl proxy")?;
        stream.set_read_timeout(Some(WATCH_LIMIT))?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes())?;
        let mut body = BufReader::new(stream);
        let mut line = String::new();
        body.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("kubectl proxy answers {line:?}"))?;
        while line.trim() != "" {
            line.clear();
            body.read_line(&mut line)?;
        }
        Ok(Answer { status, body })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It holds nothing that its end would lose.
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Answer {
    fn read(mut self, expected: &[u16]) -> Result<String> {
        let mut text = String::new();
        self.body
            .read_to_string(&mut text)
            .context("cannot read the API server's answer")?;
        if !expected.contains(&self.status) {
            bail!("the API server answers {}: {}", self.status, text.trim());
        }
        Ok(text)
    }
}

impl Watch {
    /// Waits until the pod is as wanted.
    pub(super) fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line);
            let read = read.with_context(|| format!("waited {WATCH_LIMIT:?} in vain until {what}"))?;
            ensure!(read > 0, "the API server ended the watch before {what}");
            let mut event: Value = serde_json::from_str(&line).context("a watch's line is not JSON")?;
            let pod = event["object"].take();
            if wanted(&pod) {
                return Ok(pod);
            }
        }
    }
}
