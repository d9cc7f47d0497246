//! `kubectl port-forward`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout},
    time::Duration,
};

use peerpods_testkit::{Bed, Output, Pod, PodBuilder, Runtime, container, scenario, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

/// How busybox's `timeout` ends whose command did not: 128 and SIGTERM.
const KILLED_BY_TIMEOUT: i32 = 143;

/// A server that only the pod itself can reach, and one that everybody can.
fn servers<'bed>(bed: &'bed Bed, name: &str, runtime: Runtime) -> Pod<'bed> {
    let private = "mkdir /www; echo private > /www/index.html; httpd -f -p 127.0.0.1:8080 -h /www";
    let public = "mkdir /www; echo public > /www/index.html; head -c 8388608 /dev/urandom > /www/large; \
                  httpd -f -p 80 -h /www";
    let containers = vec![container("private", private), container("public", public)];
    let pod = PodBuilder::new(name, runtime, containers).start(bed);
    wait_for("both servers listen", LIMIT, || {
        let output = pod.exec(&[
            "sh",
            "-c",
            "for port in 80 8080; do nc -w 5 127.0.0.1 $port -e true || exit 1; done",
        ]);
        if output.code == 0 {
            Ok(())
        } else {
            Err(output.stderr)
        }
    });
    pod
}

/// A `kubectl port-forward POD :PORT` that runs until it goes out of scope.
struct PortForward<'bed> {
    bed: &'bed Bed,
    kubectl: Child,
    local_port: u16,
    /// Not closed, as kubectl goes on to write.
    _stdout: BufReader<ChildStdout>,
}

impl<'bed> PortForward<'bed> {
    #[track_caller]
    fn start(bed: &'bed Bed, pod: &Pod<'_>, port: u16) -> Self {
        let (name, ports) = (format!("pod/{}", pod.name), format!(":{port}"));
        let arguments = ["port-forward", "--address", "127.0.0.1", &name, &ports];
        let mut kubectl = bed.kubectl_in_background(&arguments);
        let mut stdout = BufReader::new(kubectl.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let local_port = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("kubectl says {line:?}"));
        Self {
            bed,
            kubectl,
            local_port,
            _stdout: stdout,
        }
    }

    /// Fetches a page, or fails to, through the forwarded port.
    fn fetch(&self, path: &str) -> Output {
        let url = format!("http://127.0.0.1:{}/{path}", self.local_port);
        self.bed.enter(&[
            "busybox", "timeout", "20", "busybox", "wget", "-q", "-O", "-", &url,
        ])
    }

    /// A shell script on the node, with the forwarded port as `$PORT`.
    #[track_caller]
    fn shell(&self, script: &str) -> String {
        let script = format!("PORT={}; {script}", self.local_port);
        self.bed.enter(&["sh", "-c", &script]).text()
    }
}

impl Drop for PortForward<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

scenario!(a_forwarded_port_leads_to_who_listens_in_the_pod, bed, runtime, {
    let pod = servers(bed, "forward", runtime);
    let private = PortForward::start(bed, &pod, 8080);
    let public = PortForward::start(bed, &pod, 80);
    for _ in 0..3 {
        assert_eq!(private.fetch("").text(), "private");
        assert_eq!(public.fetch("").text(), "public");
    }
});

scenario!(a_forwarded_port_carries_much_and_many, bed, runtime, {
    let pod = servers(bed, "forward-much", runtime);
    let public = PortForward::start(bed, &pod, 80);
    let wanted = bed
        .kubectl(&[
            "exec",
            &pod.name,
            "--container",
            "public",
            "--",
            "md5sum",
            "/www/large",
        ])
        .text();
    let fetched = public.shell("busybox wget -q -O - http://127.0.0.1:$PORT/large | busybox md5sum");
    assert_eq!(fetched.split(' ').next(), wanted.split(' ').next());
    let many = public
        .shell("for i in 1 2 3 4 5 6 7 8 9 10; do busybox wget -q -O - http://127.0.0.1:$PORT/ & done; wait");
    assert_eq!(many, ["public"; 10].join("\n"));
});

scenario!(
    a_forwarded_port_that_nobody_listens_on_is_refused,
    bed,
    runtime,
    {
        let pod = servers(bed, "forward-none", runtime);
        let nobody = PortForward::start(bed, &pod, 81);
        let refused = nobody.fetch("");
        assert_ne!(refused.code, 0);
        assert_ne!(refused.code, KILLED_BY_TIMEOUT, "the client was left waiting");
        assert_eq!(PortForward::start(bed, &pod, 80).fetch("").text(), "public");
    }
);
