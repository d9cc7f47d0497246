//! Who reaches the metadata service: the VM until it has its payload, and containers where an administrator allows it.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd,
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use peerpods_guest::ec2::{close_metadata, metadata::user_data, open_metadata};
use peerpods_testkit::{
    ec2::{METADATA_ADDRESS, MetadataService},
    namespaces::in_namespaces,
};
use peerpods_tunnel::network::{self, LinkConfig};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::instance::facts;

const IPV6: &str = "fd00:ec2::254";

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Where the VM and the pod are, beside a subnet with the service.
fn in_a_vm<Story: Future<Output = ()>>(story: impl FnOnce(MetadataService) -> Story + Send) {
    in_namespaces(|| async move {
        let (here, place) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        let subnet = thread::spawn(move || {
            in_namespaces(|| async move {
                here.send(rustix::thread::gettid()).unwrap();
                finished.recv().unwrap();
            });
        });
        let place = place.recv().unwrap().as_raw_nonzero();
        ip(&format!(
            "link add eth0 type veth peer name subnet0 netns {place}"
        ));
        let namespace = format!("/proc/{place}/ns/net");
        let service = thread::spawn(move || {
            enter(Path::new(&namespace));
            for address in ["10.0.0.1/20", "169.254.169.254/32"] {
                ip(&format!("address add {address} dev subnet0"));
            }
            ip(&format!("address add {IPV6}/128 dev subnet0 nodad"));
            ip("link set subnet0 up");
            // Answers pass one host, as EC2's do.
            MetadataService::start(
                (METADATA_ADDRESS, 80).into(),
                1,
                facts(Some(b"#cloud-config\n".to_vec())),
            )
            .unwrap()
        });
        let service = service.join().unwrap();
        network::loopback_up().await.unwrap();
        let link = LinkConfig {
            address: "10.0.7.9/20".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            mtu: 9001,
            mac: None,
        };
        network::configure_link(&link).await.unwrap();
        ip("-6 route add default dev eth0");
        story(service).await;
        done.send(()).unwrap();
        subnet.join().unwrap();
    });
}

fn enter(namespace: &Path) {
    let namespace = std::fs::File::open(namespace).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// What the service answers to a request for a token, in a network namespace.
pub(crate) fn ask(namespace: &Path, address: &str) -> io::Result<String> {
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            enter(namespace);
            let address: SocketAddr = address.parse().unwrap();
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            stream.write_all(
                b"PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\
                  X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n\r\n",
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        asked.join().unwrap()
    })
}

#[test]
fn nothing_in_the_vm_reaches_it_once_the_payload_is_read() {
    in_a_vm(|_service| async {
        let url = format!("http://{METADATA_ADDRESS}");
        assert_eq!(**user_data(&url).await.unwrap(), *b"#cloud-config\n");
        close_metadata().await.unwrap();
        for address in ["169.254.169.254:80", "[fd00:ec2::254]:80"] {
            let error = ask(Path::new("/proc/thread-self/ns/net"), address).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::PermissionDenied,
                "{address}: {error}"
            );
        }
    });
}

#[test]
fn containers_reach_it_where_that_is_allowed_and_only_there() {
    in_a_vm(|service| async move {
        close_metadata().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pod = folder.path().join("podns");
        network::create_namespace(&pod).unwrap();
        let error = ask(&pod, "169.254.169.254:80").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "{error}");

        open_metadata(&pod).await.unwrap();
        let place = pod.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&place, "169.254.169.254:80"));
        let answer = asked.await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(service.requests(), ["PUT /latest/api/token"]);
        // It is a way to that service, and to nothing else of the VM's network.
        let error = ask(&pod, &format!("{}:80", Ipv4Addr::new(10, 0, 0, 1))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "{error}");
        rustix::mount::unmount(&pod, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}
