//! A pod's packets travel between its namespace on the node and the one in its VM.
#![allow(clippy::unwrap_used)]

mod external;
#[path = "../lab/mod.rs"]
mod lab;
mod unsafe_packet;

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
};

use lab::Lab;
use peerpods_testkit::namespaces::run_async;
use peerpods_tunnel::network::{
    self, NetworkError, WorkerTunnel, attach, create_namespace, inspect, node_address,
};

const VNI: u32 = 555_001;
const PORT: u16 = 4789;

/// What a CNI's bridge plugin and a provider's network make, for both families.
fn wire(lab: &Lab) {
    let (pod, vm) = (lab.netns("pod"), lab.netns("vm"));
    lab.ip("link set lo up");
    lab.ip("link add cni0 mtu 8951 type bridge");
    lab.ip("addr add 10.244.0.1/24 dev cni0");
    lab.ip("addr add fd00:244::1/64 dev cni0 nodad");
    lab.ip("link set cni0 up");
    lab.ip(&format!(
        "link add veth0 mtu 8951 type veth peer name eth0 mtu 8951 netns {}",
        pod.display()
    ));
    lab.ip("link set veth0 master cni0 up");
    lab.ip_in("pod", "addr add 10.244.0.5/24 dev eth0");
    lab.ip_in("pod", "addr add fd00:244::5/64 dev eth0 nodad");
    lab.ip_in("pod", "link set eth0 up");
    lab.ip_in("pod", "route add default via 10.244.0.1");
    lab.ip_in("pod", "route add default via fd00:244::1");

    lab.ip(&format!(
        "link add knode0 mtu 9001 type veth peer name eth0 mtu 9001 netns {}",
        vm.display()
    ));
    lab.ip("addr add 10.250.0.1/24 dev knode0");
    lab.ip("link set knode0 up");
    lab.ip("route add default via 10.250.0.254");
    lab.ip_in("vm", "addr add 10.250.0.100/24 dev eth0");
    lab.ip_in("vm", "link set eth0 up");
}

fn tunnel(lab: &Lab) -> WorkerTunnel {
    WorkerTunnel {
        netns: lab.netns("pod"),
        pod_interface: "eth0".to_owned(),
        vni: VNI,
        port: PORT,
        remote: IpAddr::from([10, 250, 0, 100]),
    }
}

/// The guest's half, as the VM makes it from its boot payload.
async fn attach_guest(lab: &Lab) {
    let pod = inspect(&lab.netns("pod")).await.unwrap();
    let network = pod.to_pod_network(node_address().await.unwrap(), VNI, PORT, 0);
    let inner = lab.netns("vm").with_file_name("podns");
    lab.inside("vm", || {
        run_async(async {
            create_namespace(&inner).unwrap();
            attach(&network, &inner).await.unwrap();
        });
    });
}

/// Sends more than a window of data through the tunnel and back, and counts what returns.
fn echo(lab: &Lab, address: &str) -> usize {
    let sent = vec![0x5a; 3 << 20];
    let listener = lab.inside("podns", || TcpListener::bind((address, 8080)).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            stream.write_all(&received).unwrap();
        });
        let mut stream = TcpStream::connect((address, 8080)).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received.len()
    })
}

#[test]
fn the_node_reaches_the_pod_in_its_vm_with_full_packets_of_both_families() {
    Lab::run(|lab| async move {
        wire(&lab);
        tunnel(&lab).attach().await.unwrap();
        attach_guest(&lab).await;
        let interface = lab.ip_in("podns", "address show eth0");
        assert!(
            interface.contains("mtu 8951") && interface.contains("10.244.0.5/24"),
            "{interface}"
        );
        assert_eq!(echo(&lab, "10.244.0.5"), 3 << 20);
        assert_eq!(echo(&lab, "fd00:244::5"), 3 << 20);
    });
}

#[test]
fn attaching_twice_is_attaching_once_and_detaching_leaves_nothing() {
    Lab::run(|lab| async move {
        wire(&lab);
        let tunnel = tunnel(&lab);
        tunnel.attach().await.unwrap();
        tunnel.attach().await.unwrap();
        attach_guest(&lab).await;
        assert_eq!(echo(&lab, "10.244.0.5"), 3 << 20);

        tunnel.detach().await.unwrap();
        tunnel.detach().await.unwrap();
        assert!(!lab.ip_in("pod", "link").contains("vxlan"));
        assert!(!lab.ip("link").contains("vxlan"));
        tunnel.attach().await.unwrap();
        assert_eq!(echo(&lab, "10.244.0.5"), 3 << 20);
    });
}

#[test]
fn what_a_crash_left_before_the_device_was_moved_is_taken_away() {
    Lab::run(|lab| async move {
        wire(&lab);
        let left = format!("link add ppvxlan{VNI} type vxlan id {VNI} dstport {PORT} remote 10.250.0.99");
        lab.ip(&left);
        tunnel(&lab).attach().await.unwrap();
        assert!(!lab.ip("link").contains("ppvxlan"));
        lab.ip("link del knode0");
        tunnel(&lab).detach().await.unwrap();
        lab.ip(&left);
        tunnel(&lab).detach().await.unwrap();
        assert!(!lab.ip("link").contains("ppvxlan"));
    });
}

#[test]
fn a_vni_of_another_tunnel_is_named() {
    Lab::run(|lab| async move {
        wire(&lab);
        lab.ip(&format!(
            "link add other type vxlan id {VNI} dstport {PORT} remote 10.250.0.99"
        ));
        let refused = tunnel(&lab).attach().await.unwrap_err();
        assert!(matches!(refused, NetworkError::VniInUse(VNI)), "{refused}");
    });
}

#[test]
fn a_namespace_without_a_pod_interface_is_named_and_detaching_from_a_gone_one_succeeds() {
    Lab::run(|lab| async move {
        let empty = lab.netns("empty");
        let refused = inspect(&empty).await.unwrap_err();
        assert!(matches!(refused, NetworkError::NoPodInterface(_)), "{refused}");
        let gone = WorkerTunnel {
            netns: "/nonexistent/netns".into(),
            ..tunnel(&lab)
        };
        gone.detach().await.unwrap();
        assert!(matches!(gone.attach().await, Err(NetworkError::Namespace { .. })));
    });
}

#[test]
fn the_vm_configures_its_own_link() {
    Lab::run(|lab| async move {
        wire(&lab);
        lab.ip_in("vm", "addr flush dev eth0");
        let config: network::LinkConfig =
            serde_json::from_str(r#"{"address":"10.250.0.101/24","gateway":"10.250.0.1","mtu":9001}"#)
                .unwrap();
        lab.inside("vm", || {
            run_async(async {
                network::loopback_up().await.unwrap();
                network::configure_link(&config).await.unwrap();
            });
        });
        let routes = lab.ip_in("vm", "route");
        assert!(
            routes.contains("default via 10.250.0.1") && routes.contains("10.250.0.0/24"),
            "{routes}"
        );
        assert!(lab.ip_in("vm", "addr show lo").contains("127.0.0.1"));
    });
}
