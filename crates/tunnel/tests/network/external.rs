//! A pod whose way to the outside is its VM's second interface.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

use peerpods_proto::payload::PodNetwork;
use peerpods_testkit::namespaces::run_async;
use peerpods_tunnel::network::{
    ExternalGuard, ExternalLink, LinkConfig, NetworkError, attach, create_namespace, ethernet_devices,
    inspect, node_address, spare_ethernet,
};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt::set_socket_timeout};
use tokio::net::UdpSocket;

use super::{PORT, VNI, echo, lab::Lab, tunnel, unsafe_packet, wire};

const SERVICE: &str = "10.96.0.10";
const OUTSIDE: &str = "203.0.113.5";
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// What ends what a test sends and looks for.
const MARK: &[u8] = b"that was all";
/// More than a frame has.
const FRAME_LIMIT: usize = 2048;

/// The VM's second interface, and the subnet that it is in, whose router leads to the outside. The cluster has a service.
fn wire_both(lab: &Lab) {
    wire(lab);
    let (vm, subnet) = (lab.netns("vm"), lab.netns("subnet"));
    lab.ip(&format!(
        "link add wire0 type veth peer name subnet0 netns {}",
        subnet.display()
    ));
    lab.ip(&format!(
        "link set wire0 mtu 9001 netns {} name eth1",
        vm.display()
    ));
    for address in ["10.250.1.1/24", "203.0.113.5/32", "169.254.169.254/32"] {
        lab.ip_in("subnet", &format!("addr add {address} dev subnet0"));
    }
    lab.ip_in("subnet", "link set subnet0 mtu 9001 up");
    lab.ip(&format!("addr add {SERVICE}/32 dev lo"));
    lab.ip("addr add 198.51.100.7/32 dev lo");
}

async fn pod_network(lab: &Lab) -> PodNetwork {
    let pod = inspect(&lab.netns("pod")).await.unwrap();
    let mut network = pod.to_pod_network(node_address().await.unwrap(), VNI, PORT, 0);
    network
        .routes
        .extend(pod.routes_to(&["10.96.0.0/12".parse().unwrap()]));
    network.external_net_via_pod_vm = true;
    network
}

fn lease(gateway: Option<IpAddr>) -> LinkConfig {
    LinkConfig {
        address: "10.250.1.9/24".parse().unwrap(),
        gateway,
        mtu: 9001,
        mac: None,
    }
}

/// What the guest does once it knows its pod.
async fn join(lab: &Lab, lease: LinkConfig) {
    let network = pod_network(lab).await;
    tunnel(lab).attach().await.unwrap();
    let inner = lab.netns("vm").with_file_name("podns");
    lab.inside("vm", || {
        run_async(async {
            create_namespace(&inner).unwrap();
            let second = spare_ethernet().await.unwrap().unwrap();
            assert_eq!(second.name(), "eth1");
            let guard = ExternalGuard {
                metadata: METADATA,
                tunnel_port: PORT,
            };
            let external = ExternalLink::make(second, &inner, guard).await.unwrap();
            attach(&network, &inner).await.unwrap();
            external.configure(&lease, &network).await.unwrap();
        });
    });
}

/// Whom a server in one namespace sees when it is connected to from another.
fn seen_by(lab: &Lab, server: &str, address: &str, client: &str) -> String {
    let bind = || TcpListener::bind((address, 8081)).unwrap();
    let listener = if server == "node" {
        bind()
    } else {
        lab.inside(server, bind)
    };
    lab.inside(client, || {
        let mut stream = TcpStream::connect((address, 8081)).unwrap();
        stream.write_all(b"hello").unwrap();
    });
    let (mut stream, peer) = listener.accept().unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    peer.ip().to_string()
}

#[test]
fn the_outside_sees_the_vms_address_and_the_cluster_the_pods() {
    Lab::run(|lab| async move {
        wire_both(&lab);
        join(&lab, lease(Some([10, 250, 1, 1].into()))).await;
        assert_eq!(seen_by(&lab, "subnet", OUTSIDE, "podns"), "10.250.1.9");
        assert_eq!(seen_by(&lab, "subnet", "10.250.1.1", "podns"), "10.250.1.9");
        assert_eq!(seen_by(&lab, "node", SERVICE, "podns"), "10.244.0.5");
        assert_eq!(seen_by(&lab, "node", "10.244.0.1", "podns"), "10.244.0.5");
        let device = lab.ip_in("podns", "link show external0");
        assert!(device.contains("mtu 9001"), "{device}");
        assert!(!lab.ip_in("podns", "-6 address show external0").contains("inet6"));
        // The pod's own interface is the one that it is known by, with its tunnel's MTU.
        let interface = inspect(&lab.netns("podns")).await.unwrap();
        assert_eq!((interface.name.as_str(), interface.mtu), ("eth0", 8951));
        assert!(
            interface.routes.iter().all(|route| route.dev == "eth0"),
            "{interface:?}"
        );
    });
}

#[test]
fn a_network_that_names_no_router_has_it_at_its_first_address() {
    Lab::run(|lab| async move {
        wire_both(&lab);
        join(&lab, lease(None)).await;
        assert_eq!(seen_by(&lab, "subnet", OUTSIDE, "podns"), "10.250.1.9");
    });
}

#[test]
fn what_comes_by_the_tunnel_is_answered_by_the_tunnel() {
    Lab::run(|lab| async move {
        wire_both(&lab);
        join(&lab, lease(Some([10, 250, 1, 1].into()))).await;
        assert_eq!(echo(&lab, "10.244.0.5"), 3 << 20);
        assert_eq!(echo(&lab, "fd00:244::5"), 3 << 20);
        // A client from anywhere, whose address a service kept.
        let listener = lab.inside("podns", || TcpListener::bind(("0.0.0.0", 8082)).unwrap());
        lab.ip("route add 10.244.0.5 dev cni0 src 198.51.100.7");
        let client = TcpStream::connect(("10.244.0.5", 8082)).unwrap();
        assert_eq!(client.local_addr().unwrap().ip().to_string(), "198.51.100.7");
        drop(listener.accept().unwrap());
    });
}

/// Sends datagrams past the routes, as a process without any right may: by a socket that is bound to the device.
async fn send_from_the_device(targets: &[(IpAddr, u16)]) {
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    socket.bind_device(Some(b"external0")).unwrap();
    for target in targets {
        socket.send_to(b"datagram", target).await.unwrap();
    }
    socket.send_to(MARK, "10.250.1.1:9").await.unwrap();
}

/// An Ethernet frame with a UDP datagram, or what claims to be one of another protocol.
fn frame(protocol: u16, destination: Ipv4Addr, port: u16, options: usize, text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(protocol.to_be_bytes());
    let header = u8::try_from(5 + options).unwrap();
    let length = u16::try_from(usize::from(header) * 4 + 8 + text.len()).unwrap();
    frame.extend([0x40 | header, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 250, 1, 9]);
    frame.extend(destination.octets());
    frame.extend(vec![1; options * 4]);
    frame.extend([0, 9]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 8, 0, 0]);
    frame.extend(text);
    frame
}

/// The frames that arrive until the mark.
fn until_mark(socket: &OwnedFd) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let mut frame = vec![0; FRAME_LIMIT];
        let (length, _) = recv(socket, &mut frame[..], RecvFlags::empty()).unwrap();
        frame.truncate(length);
        if frame.windows(MARK.len()).any(|part| part == MARK) {
            return frames;
        }
        frames.push(frame);
    }
}

fn packets_of(lab: &Lab, name: &str, device: &str) -> OwnedFd {
    let shown = lab.ip_in(name, &format!("-oneline link show {device}"));
    let (index, _) = shown.split_once(':').unwrap();
    let index = index.parse().unwrap();
    let socket = lab.inside(name, || unsafe_packet::open(index).unwrap());
    let limit = Some(Duration::from_secs(20));
    set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, limit).unwrap();
    socket
}

fn datagrams(frames: &[Vec<u8>]) -> Vec<(Ipv4Addr, u16)> {
    let datagrams = frames
        .iter()
        .filter(|frame| frame[12..14] == [8, 0] && frame[23] == 17);
    datagrams
        .map(|frame| {
            let destination: [u8; 4] = frame[30..34].try_into().unwrap();
            let udp = 14 + usize::from(frame[14] & 0x0f) * 4;
            (
                destination.into(),
                u16::from_be_bytes([frame[udp + 2], frame[udp + 3]]),
            )
        })
        .collect()
}

#[test]
fn nothing_of_the_pod_reaches_the_metadata_service_or_other_pods_tunnels_that_way() {
    Lab::run(|lab| async move {
        wire_both(&lab);
        join(&lab, lease(Some([10, 250, 1, 1].into()))).await;
        let arriving = packets_of(&lab, "subnet", "subnet0");
        let elsewhere = Ipv4Addr::new(203, 0, 113, 5);
        // The pod knows the neighbours that it sends to: what is looked at is what the guard lets pass.
        let router = lab.ip_in("subnet", "-oneline link show subnet0");
        let mac = router
            .split("link/ether ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        for neighbour in ["169.254.169.254", "10.250.1.1"] {
            lab.ip_in(
                "podns",
                &format!("neigh replace {neighbour} lladdr {mac} dev external0"),
            );
        }
        let refused = [
            (METADATA.into(), 80),
            (METADATA.into(), 53),
            ([10, 250, 1, 1].into(), PORT),
        ];
        let passing = [([169, 254, 169, 253].into(), 53), (elsewhere.into(), PORT + 1)];
        lab.ip_in(
            "podns",
            &format!("neigh replace 169.254.169.253 lladdr {mac} dev external0"),
        );
        lab.ip_in(
            "podns",
            &format!("neigh replace {elsewhere} lladdr {mac} dev external0"),
        );
        let targets = [refused, [passing[0], passing[1], passing[0]]].concat();
        lab.inside("podns", || run_async(send_from_the_device(&targets)));
        let seen = datagrams(&until_mark(&arriving));
        let expected = [passing[0], passing[1], passing[0]].map(|(address, port)| match address {
            IpAddr::V4(address) => (address, port),
            IpAddr::V6(_) => unreachable!("all are of IPv4"),
        });
        assert_eq!(seen, expected);

        // Nor with CAP_NET_RAW, by frames that pass by every queue of the pod's.
        let raw = packets_of(&lab, "podns", "external0");
        for frame in [
            frame(0x0800, METADATA, 80, 0, b""),
            frame(0x0800, elsewhere, PORT, 0, b""),
            frame(0x0800, elsewhere, PORT, 3, b""),
            frame(0x86dd, elsewhere, 80, 0, b""),
            frame(0x8100, METADATA, 80, 0, b""),
            frame(0x0800, elsewhere, 80, 3, b""),
            frame(0x0800, elsewhere, 9, 0, MARK),
        ] {
            // That a frame is dropped, its sender may be told.
            let sent = send(&raw, &frame, SendFlags::empty());
            assert!(matches!(sent, Ok(_) | Err(Errno::NOBUFS)), "{sent:?}");
        }
        let frames = until_mark(&arriving);
        assert_eq!(datagrams(&frames), [(elsewhere, 80)]);
        // What else arrives looks for neighbours.
        let known = |frame: &Vec<u8>| [[8, 0], [8, 6]].iter().any(|kind| frame[12..14] == *kind);
        assert!(frames.iter().all(known), "{frames:02x?}");
    });
}

#[test]
fn a_vm_without_a_second_interface_has_none_to_give() {
    Lab::run(|lab| async move {
        wire(&lab);
        lab.inside("vm", || {
            run_async(async {
                assert!(spare_ethernet().await.unwrap().is_none());
                let devices = ethernet_devices().await.unwrap();
                devices[0].stop().await.unwrap();
                assert_eq!(spare_ethernet().await.unwrap().unwrap().mac(), devices[0].mac());
            });
        });
        lab.netns("empty");
        lab.inside("empty", || {
            run_async(async {
                let error = spare_ethernet().await.unwrap_err();
                assert!(matches!(error, NetworkError::NoEthernet), "{error}");
            });
        });
    });
}
