//! What is dialled on the loopback of a pod's namespace is caught, and nothing else.
#![allow(clippy::unwrap_used)]

mod lab;

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use lab::Lab;
use peerpods_tunnel::forward::{Destination, Family, LoopbackCatch};
use rustix::net::{AddressFamily, SocketType};

/// Longer than a connection within one machine takes.
const LIMIT: Duration = Duration::from_secs(5);

/// A pod as its CNI leaves it: a loopback, and an interface with addresses of both families.
fn wire(lab: &Lab) {
    let pod = lab.netns("pod");
    lab.ip("link set lo up");
    lab.ip(&format!(
        "link add veth0 type veth peer name eth0 netns {}",
        pod.display()
    ));
    lab.ip("addr add 10.244.0.1/24 dev veth0");
    lab.ip("link set veth0 up");
    lab.ip_in("pod", "link set lo up");
    lab.ip_in("pod", "addr add 10.244.0.5/24 dev eth0");
    lab.ip_in("pod", "addr add fd00:244::5/64 dev eth0 nodad");
    lab.ip_in("pod", "link set eth0 up");
    // The kernel takes an IPv6 address into use some time after it was given.
    while !lab
        .ip_in("pod", "-6 route show table local")
        .contains("fd00:244::5")
    {}
}

fn catch(lab: &Lab) -> LoopbackCatch {
    LoopbackCatch::start(&lab.netns("pod")).unwrap()
}

fn dial(lab: &Lab, namespace: &str, address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    lab.inside(namespace, || TcpStream::connect_timeout(&address, LIMIT))
}

#[track_caller]
fn assert_refused(lab: &Lab, namespace: &str, address: &str) {
    let refused = dial(lab, namespace, address).unwrap_err();
    assert_eq!(
        refused.kind(),
        io::ErrorKind::ConnectionRefused,
        "{address}: {refused}"
    );
}

#[track_caller]
fn wait_for_refusal(lab: &Lab, address: &str) {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if dial(lab, "pod", address).is_err() {
            break;
        }
    }
    assert_refused(lab, "pod", address);
}

#[test]
fn a_connection_to_any_port_of_the_loopback_is_caught_and_says_which() {
    Lab::run(|lab| async move {
        wire(&lab);
        let catch = catch(&lab);
        for (address, family, port) in [
            ("127.0.0.1:1", Family::V4, 1),
            ("127.0.0.1:8080", Family::V4, 8080),
            ("127.1.2.3:65535", Family::V4, 65535),
            ("[::1]:80", Family::V6, 80),
            ("[::1]:50051", Family::V6, 50051),
        ] {
            let _client = dial(&lab, "pod", address).unwrap();
            let caught = catch.accept().await.unwrap();
            assert_eq!(caught.destination, Destination { family, port });
            assert_eq!(caught.stream.local_addr().unwrap(), address.parse().unwrap());
        }
    });
}

#[test]
fn a_connection_to_another_address_is_not_touched() {
    Lab::run(|lab| async move {
        wire(&lab);
        let _catch = catch(&lab);
        for own in ["10.244.0.5:8080", "[fd00:244::5]:8080"] {
            assert_refused(&lab, "pod", own);
            let listener = lab.inside("pod", || TcpListener::bind(own).unwrap());
            let client = dial(&lab, "pod", own).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
        let outside = TcpListener::bind("10.244.0.1:8080").unwrap();
        let client = dial(&lab, "pod", "10.244.0.1:8080").unwrap();
        assert_eq!(outside.accept().unwrap().1, client.local_addr().unwrap());
        assert_refused(&lab, "pod", "10.244.0.1:8081");
    });
}

#[test]
fn datagrams_are_not_touched() {
    Lab::run(|lab| async move {
        wire(&lab);
        let _catch = catch(&lab);
        let (server, client) = lab.inside("pod", || {
            let bound = || UdpSocket::bind("127.0.0.1:0").unwrap();
            (bound(), bound())
        });
        client.send_to(b"datagram", server.local_addr().unwrap()).unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        let mut received = [0; 16];
        let (length, from) = server.recv_from(&mut received).unwrap();
        assert_eq!(
            (&received[..length], from),
            (&b"datagram"[..], client.local_addr().unwrap())
        );
    });
}

#[test]
fn other_namespaces_are_not_touched() {
    Lab::run(|lab| async move {
        wire(&lab);
        lab.netns("other");
        lab.ip_in("other", "link set lo up");
        let _catch = catch(&lab);
        assert_refused(&lab, "other", "127.0.0.1:8080");
        let node = TcpStream::connect("127.0.0.1:8080").unwrap_err();
        assert_eq!(node.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn nothing_is_caught_once_the_catch_is_dropped() {
    Lab::run(|lab| async move {
        wire(&lab);
        for _ in 0..2 {
            let catch = catch(&lab);
            dial(&lab, "pod", "127.0.0.1:8080").unwrap();
            drop(catch);
            // A program that another test starts holds copies of this process's descriptors until it runs.
            wait_for_refusal(&lab, "127.0.0.1:8080");
            wait_for_refusal(&lab, "[::1]:8080");
        }
    });
}

#[test]
fn a_namespace_without_ipv6_has_its_ipv4_caught() {
    Lab::run(|lab| async move {
        wire(&lab);
        let switched_off = lab.inside("pod", || {
            std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").is_ok()
                && TcpListener::bind("[::1]:0").is_err()
        });
        if !switched_off {
            println!("skipped: IPv6 cannot be switched off here");
            return;
        }
        let catch = catch(&lab);
        let _client = dial(&lab, "pod", "127.0.0.1:8080").unwrap();
        assert_eq!(catch.accept().await.unwrap().destination.port, 8080);
    });
}

/// A client that is refused before it is accepted must not end the catch.
#[test]
fn a_client_that_gives_up_at_once_loses_no_other() {
    Lab::run(|lab| async move {
        wire(&lab);
        let catch = catch(&lab);
        let hasty = lab.inside("pod", || {
            rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
        });
        rustix::net::sockopt::set_socket_linger(&hasty, Some(Duration::ZERO)).unwrap();
        rustix::net::connect(&hasty, &"127.0.0.1:1".parse::<SocketAddr>().unwrap()).unwrap();
        drop(hasty);
        let _patient = dial(&lab, "pod", "127.0.0.1:2").unwrap();
        loop {
            if let Ok(caught) = catch.accept().await
                && caught.destination.port == 2
            {
                break;
            }
        }
    });
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    Lab::run(|lab| async move {
        let missing = lab.netns("pod").with_file_name("missing");
        let Err(error) = LoopbackCatch::start(&missing) else {
            panic!("it catches where nothing is")
        };
        assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    });
}
