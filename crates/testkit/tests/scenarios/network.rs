//! The pod's address works from everywhere, and the pod reaches everything.

use std::time::Duration;

use peerpods_testkit::{Bed, Pod, PodBuilder, Runtime, container, scenario, wait_for};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);

fn server<'bed>(bed: &'bed Bed, name: &str, runtime: Runtime) -> Pod<'bed> {
    let script = "mkdir /www; hostname > /www/index.html; httpd -f -p 80 -h /www";
    PodBuilder::new(name, runtime, vec![container("main", script)]).start(bed)
}

/// Fetches `http://HOST/` within the pod until the server answers.
#[track_caller]
fn fetch(pod: &Pod<'_>, host: &str) -> String {
    wait_for(&format!("{} fetches http://{host}/", pod.name), LIMIT, || {
        let output = pod.exec(&[
            "timeout",
            "5",
            "wget",
            "-q",
            "-O",
            "-",
            &format!("http://{host}/"),
        ]);
        if output.code == 0 {
            Ok(output.text())
        } else {
            Err(output.stderr)
        }
    })
}

scenario!(the_node_reaches_the_pod, bed, runtime, {
    let pod = server(bed, "from-node", runtime);
    let url = format!("http://{}/", pod.address());
    let answer = wait_for("the node fetches a page from the pod", LIMIT, || {
        let output = bed.enter(&[
            "busybox", "timeout", "5", "busybox", "wget", "-q", "-O", "-", &url,
        ]);
        if output.code == 0 {
            Ok(output.text())
        } else {
            Err(output.stderr)
        }
    });
    assert_eq!(answer, pod.name);
});

scenario!(
    pods_of_both_kinds_reach_each_other_by_address_service_and_name,
    bed,
    runtime,
    {
        let pod = server(bed, "web", runtime);
        let other_kind = if runtime == Runtime::Runc {
            Runtime::PeerPod
        } else {
            Runtime::Runc
        };
        let peer = server(bed, &format!("peer-of-{}", runtime.suffix()), other_kind);
        assert_eq!(fetch(&peer, &pod.address()), pod.name);
        assert_eq!(fetch(&pod, &peer.address()), peer.name);
        bed.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": pod.name},
            "spec": {"selector": {"app": pod.name}, "ports": [{"port": 80}]},
        }));
        let service = bed.get("service", &pod.name).expect("the service is there");
        let cluster_ip = service["spec"]["clusterIP"]
            .as_str()
            .expect("it has an address")
            .to_owned();
        assert_eq!(fetch(&peer, &cluster_ip), pod.name);
        assert_eq!(
            fetch(&pod, &cluster_ip),
            pod.name,
            "a pod reaches itself through its service"
        );
        let name = format!("{}.default.svc.cluster.local", pod.name);
        assert_eq!(fetch(&peer, &name), pod.name);
        bed.kubectl(&["delete", "service", &pod.name]).text();
    }
);

scenario!(a_port_of_the_node_leads_to_the_pod, bed, runtime, {
    let port = if runtime == Runtime::Runc { 18080 } else { 18081 };
    let mut main = container(
        "main",
        "mkdir /www; hostname > /www/index.html; httpd -f -p 80 -h /www",
    );
    main["ports"] = json!([{"containerPort": 80, "hostPort": port}]);
    let pod = PodBuilder::new("host-port", runtime, vec![main]).start(bed);
    let asker = PodBuilder::new("host-port-asker", runtime, vec![container("main", "sleep 1000")]).start(bed);
    assert_eq!(fetch(&asker, &format!("10.250.0.1:{port}")), pod.name);
});

scenario!(the_pod_reaches_the_api_server_and_the_outside, bed, runtime, {
    let pod = PodBuilder::new("out", runtime, vec![container("main", "sleep 1000")]).start(bed);
    let connect =
        |host: &str, port: &str| pod.exec(&["timeout", "10", "nc", "-w", "5", host, port, "-e", "true"]);
    assert_eq!(
        connect("10.96.0.1", "443").code,
        0,
        "the API server's service is not reached"
    );
    assert!(!fetch(&pod, "198.51.100.1").is_empty());
});

#[test]
fn full_size_packets_pass_the_tunnel() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("mtu", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    let mtu: u32 = pod.shell("cat /sys/class/net/eth0/mtu").parse().unwrap();
    let node = bed.enter(&["cat", "/sys/class/net/cni0/mtu"]).text();
    assert_eq!(
        mtu.to_string(),
        node,
        "the path carries the pod network's full packets"
    );
    let ping = bed.enter(&[
        "busybox",
        "ping",
        "-c",
        "1",
        "-s",
        &(mtu - 28).to_string(),
        &pod.address(),
    ]);
    assert_eq!(ping.code, 0, "{}", ping.stdout);
}
