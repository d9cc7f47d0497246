//! An instance with two network interfaces: which is its own, and what its pod has of the other.

use std::{io, net::Ipv4Addr, path::Path, process::Command, sync::mpsc, thread};

use peerpods_guest::ec2::{close_metadata, external::External, join_network, open_metadata};
use peerpods_testkit::{
    ec2::{InterfaceFacts, METADATA_ADDRESS, MetadataService, Subnet, SubnetSettings},
    namespaces::in_namespaces,
};
use peerpods_tunnel::network;

use crate::{
    instance::{Interfaces, facts, pod_network},
    metadata_access::{ask, ip},
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The primary interface, which the kernel finds after the other one.
const OWN: (Ipv4Addr, &str) = (Ipv4Addr::new(10, 0, 7, 9), "02:00:00:00:00:07");
const SECOND: (Ipv4Addr, &str) = (Ipv4Addr::new(10, 0, 7, 10), "02:00:00:00:00:08");

fn subnet(folder: &Path, device: &str, (instance, mac): (Ipv4Addr, &str)) -> Subnet {
    let settings = SubnetSettings {
        device,
        instance,
        mac,
        router: ROUTER,
        prefix: 20,
    };
    Subnet::start_on(folder, settings).unwrap()
}

/// Runs a story in the namespaces of a VM whose devices `eth0` and `eth1` have a subnet and the metadata service beside them.
fn in_a_vm<Story: Future<Output = ()>>(story: impl FnOnce() -> Story + Send) {
    in_namespaces(|| async move {
        let (here, place) = mpsc::channel();
        let (wire, wired) = mpsc::channel();
        let (up, ready) = mpsc::channel();
        let (done, finished) = mpsc::channel::<()>();
        let beside = thread::spawn(move || {
            in_namespaces(|| async move {
                here.send(rustix::thread::gettid()).unwrap();
                wired.recv().unwrap();
                let folder = tempfile::tempdir().unwrap();
                let _subnets = [("subnet0", SECOND), ("subnet1", OWN)]
                    .map(|(device, interface)| subnet(folder.path(), device, interface));
                let mut facts = facts(None);
                facts.interfaces = [OWN, SECOND]
                    .map(|(private_ip, mac)| InterfaceFacts {
                        private_ip,
                        mac: mac.to_owned(),
                    })
                    .to_vec();
                let _service = MetadataService::start((METADATA_ADDRESS, 80).into(), 1, facts).unwrap();
                up.send(()).unwrap();
                // It ends with the story, however that ends.
                finished.recv().unwrap_err();
            });
        });
        let place = place.recv().unwrap().as_raw_nonzero();
        for (number, (_, mac)) in [SECOND, OWN].iter().enumerate() {
            ip(&format!(
                "link add eth{number} address {mac} type veth peer name subnet{number} netns {place}"
            ));
        }
        wire.send(()).unwrap();
        ready.recv().unwrap();
        // The VM's resolver is told to the VM alone.
        let resolver = tempfile::NamedTempFile::new().unwrap();
        rustix::mount::mount_bind(resolver.path(), "/etc/resolv.conf").unwrap();
        network::loopback_up().await.unwrap();
        story().await;
        drop(done);
        beside.join().unwrap();
    });
}

/// `ip …` in a network namespace.
fn shown(namespace: &Path, arguments: &str) -> String {
    let enter = format!("--net={}", namespace.display());
    let output = Command::new("nsenter")
        .arg(enter)
        .arg("ip")
        .args(arguments.split(' '))
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn the_primary_interface_is_the_vms_and_the_other_its_pods() {
    in_a_vm(|| async {
        let own = Path::new("/proc/thread-self/ns/net");
        join_network(&format!("http://{METADATA_ADDRESS}")).await.unwrap();
        close_metadata().await.unwrap();
        let addresses = shown(own, "-4 -brief address");
        assert!(
            addresses.contains("10.0.7.9/20") && !addresses.contains("10.0.7.10"),
            "{addresses}"
        );

        let folder = tempfile::tempdir().unwrap();
        let pod = folder.path().join("podns");
        network::create_namespace(&pod).unwrap();
        let external = External::join(&pod, &pod_network(Interfaces::Two)).await.unwrap();
        network::attach(&pod_network(Interfaces::Two), &pod)
            .await
            .unwrap();
        external.open(&pod_network(Interfaces::Two)).await.unwrap();
        let device = shown(&pod, "address show external0");
        assert!(
            device.contains("10.0.7.10/20") && device.contains("mtu 9001"),
            "{device}"
        );
        assert!(device.contains(SECOND.1), "{device}");
        let way = shown(&pod, "route get 203.0.113.5");
        assert!(way.contains("via 10.0.0.1 dev external0 src 10.0.7.10"), "{way}");
        let way = shown(&pod, "route get 203.0.113.5 from 10.244.0.5");
        assert!(way.contains("via 10.244.0.1 dev eth0"), "{way}");

        // What the instance is told is not for the pod, unless an administrator says so.
        for address in ["169.254.169.254:80", "[fd00:ec2::254]:80"] {
            let error = ask(&pod, address).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::PermissionDenied,
                "{address}: {error}"
            );
        }
        open_metadata(&pod).await.unwrap();
        let place = pod.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&place, "169.254.169.254:80"));
        let answer = asked.await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        rustix::mount::unmount(&pod, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}
