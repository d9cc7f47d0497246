//! The pod network beside a bare VXLAN between the same two kernels' ends: the node and the guest.
//!
//! A sink runs in the guest's or the pod's network namespace, and the node sends to it for a while. The bare VXLAN is
//! made for the measurement, over the same devices and with the same MTU as the pod's tunnel.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    context::Context,
    node::Guest,
    own_program,
    pod::{Pod, Runtime},
    row::{Goal, Row, Unit},
    samples::Samples,
};
use crate::process::run;

/// The device on either side.
const DEVICE: &str = "bench0";
const NODE_ADDRESS: &str = "10.99.0.1";
const GUEST_ADDRESS: &str = "10.99.0.2";
/// The node, as guests reach it.
const NODE: &str = "10.250.0.1";
/// What the pod's tunnel has: the bridge's, less what VXLAN adds.
const MTU: &str = "8951";
/// Neither of the adaptors' ports.
const PORT: &str = "4799";
/// One write or read: large enough that copying is what takes the time.
const BUFFER: usize = 256 << 10;
const MEBIBYTE: f64 = (1 << 20) as f64;
/// The sink waits no longer for the sender.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Throughput from the node to the pod.
pub(super) fn measure(context: &Context) -> Result<Vec<Row>> {
    let ours = Pod::start(context, "network", Runtime::Namespaces)?;
    let runc = Pod::start(context, "network", Runtime::Runc)?;
    let guest = context.node.guest_of(&ours)?;
    let bare = BareVxlan::make(&guest)?;
    let pod_namespace = format!("/proc/{}/root/run/netns/podns", guest.process.0);
    let runc_namespace = format!("/proc/{}/ns/net", first_process(&runc)?);
    let time = Duration::from_secs(context.samples(3, 1) as u64);

    let (rounds, mut share) = (context.samples(5, 1), Samples::default());
    let mut speeds = [Samples::default(), Samples::default(), Samples::default()];
    for _ in 0..rounds {
        let ends = [
            (ours.address.as_str(), pod_namespace.as_str()),
            (GUEST_ADDRESS, bare.guest_namespace.as_str()),
            (runc.address.as_str(), runc_namespace.as_str()),
        ];
        let mut round = [0.0; 3];
        for (speed, (address, namespace)) in round.iter_mut().zip(ends) {
            context.check()?;
            *speed = throughput(address, namespace, time)?;
        }
        let [pod, bare, runc] = round;
        context.say(&format!(
            "network: {pod:.0} MiB/s, bare VXLAN {bare:.0} MiB/s, runc {runc:.0} MiB/s"
        ));
        share.push(pod / bare * 100.0);
        speeds
            .iter_mut()
            .zip(round)
            .for_each(|(samples, one)| samples.push(one));
    }
    drop(bare);
    ours.end()?;
    runc.end()?;
    let [pod, bare, runc] = speeds;
    let speed = |name, what, samples| Row::new(name, what, Unit::MebibytesPerSecond, samples);
    Ok(vec![
        Row::new(
            "network-share",
            "pod network, of a bare VXLAN",
            Unit::Percent,
            share,
        )
        .goal(Goal::AtLeast(95.0)),
        speed("network", "  node to pod", pod).beside(runc),
        speed("network-bare", "  node to guest, bare VXLAN", bare),
    ])
}

/// The first process of a container, on the node.
fn first_process(pod: &Pod<'_>) -> Result<u32> {
    let mut command = Command::new("ctr");
    command
        .args(["--namespace", "k8s.io", "tasks", "ls"])
        .env("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "1");
    let listed = crate::process::output(&mut command)?;
    let line = listed.lines().find(|line| line.starts_with(&pod.container));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .with_context(|| format!("containerd does not list the process of {}", pod.name))
}

/// A VXLAN between the node and a guest, made by hand; removed when it is dropped.
struct BareVxlan {
    guest_namespace: String,
}

impl BareVxlan {
    fn make(guest: &Guest) -> Result<Self> {
        let vxlan = Self {
            guest_namespace: format!("/proc/{}/ns/net", guest.process.0),
        };
        vxlan.end(&[], &guest.address, NODE_ADDRESS)?;
        let inside = ["nsenter", &format!("--net={}", vxlan.guest_namespace)];
        vxlan.end(&inside, NODE, GUEST_ADDRESS)?;
        Ok(vxlan)
    }

    fn end(&self, inside: &[&str], remote: &str, address: &str) -> Result<()> {
        let net = format!("{address}/24");
        let add = [
            "ip", "link", "add", DEVICE, "mtu", MTU, "type", "vxlan", "id", "99", "dstport", PORT, "remote",
            remote,
        ];
        let commands: [&[&str]; 3] = [
            &add,
            &["ip", "address", "add", &net, "dev", DEVICE],
            &["ip", "link", "set", DEVICE, "up"],
        ];
        for words in commands {
            let all = [inside, words].concat();
            run(Command::new(all[0]).args(&all[1..]))?;
        }
        Ok(())
    }
}

impl Drop for BareVxlan {
    fn drop(&mut self) {
        // The guest's end goes with the guest's namespace.
        if let Err(error) = run(Command::new("ip").args(["link", "delete", DEVICE])) {
            eprintln!("bench: {error:#}");
        }
    }
}

/// Sends for a while to a sink in that network namespace.
fn throughput(address: &str, namespace: &str, time: Duration) -> Result<f64> {
    let mut sink = Sink::start(namespace)?;
    let address = SocketAddr::new(address.parse::<IpAddr>()?, sink.port);
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)
        .with_context(|| format!("cannot connect to {address}"))?;
    let buffer = vec![0; BUFFER];
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < time {
        sent += stream.write(&buffer).context("cannot send")?;
    }
    drop(stream);
    let received = sink.received()?;
    let elapsed = start.elapsed();
    ensure!(received == sent as u64, "{received} of {sent} bytes arrived");
    Ok(received as f64 / MEBIBYTE / elapsed.as_secs_f64())
}

/// This program as a sink in another network namespace.
struct Sink {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Sink {
    fn start(namespace: &str) -> Result<Self> {
        let mut process = Command::new("nsenter")
            .arg(format!("--net={namespace}"))
            .arg(own_program()?)
            .arg("bench-sink")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start nsenter")?;
        let output = process.stdout.take().context("its output is a pipe")?;
        let mut sink = Self {
            process,
            output: BufReader::new(output),
            port: 0,
        };
        sink.port = sink.line()?.parse().context("the sink has no port")?;
        Ok(sink)
    }

    fn received(&mut self) -> Result<u64> {
        self.line()?.parse().context("the sink does not count")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Usually it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Listens, tells the port, takes one connection to its end, and tells how many bytes came.
pub(crate) fn sink() -> Result<()> {
    let listener = TcpListener::bind("0.0.0.0:0").context("cannot listen")?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept().context("nobody connects")?;
    let (mut buffer, mut received) = (vec![0; BUFFER], 0);
    loop {
        match stream.read(&mut buffer).context("cannot receive")? {
            0 => break,
            read => received += read as u64,
        }
    }
    println!("{received}");
    Ok(())
}
