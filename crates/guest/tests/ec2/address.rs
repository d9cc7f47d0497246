//! Addresses by DHCP, from busybox's server: client and server in network namespaces of their own, with a wire between.

use std::{net::Ipv4Addr, process::Command, sync::mpsc, thread};

use peerpods_guest::ec2::dhcp::{Lease, acquire};
use peerpods_testkit::{
    ec2::{Subnet, SubnetSettings},
    namespaces::{in_namespaces, until},
};

const MAC: &str = "02:00:00:00:00:07";
const MAC_BYTES: [u8; 6] = [2, 0, 0, 0, 0, 7];

const SUBNET: SubnetSettings<'static> = SubnetSettings {
    device: "subnet0",
    instance: Ipv4Addr::new(10, 0, 7, 9),
    mac: MAC,
    router: Ipv4Addr::new(10, 0, 0, 1),
    prefix: 20,
};

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Runs a story on the subnet's side, and a client, which gets an address as often as it is told to, on the other.
fn with_client<Story: Future<Output = ()>>(
    leases: usize,
    story: impl FnOnce(mpsc::Receiver<Lease>) -> Story + Send,
) {
    in_namespaces(|| async move {
        let (here, place) = mpsc::channel();
        let (wire, wired) = mpsc::channel();
        let (got, lease) = mpsc::channel();
        let client = thread::spawn(move || {
            in_namespaces(|| async move {
                here.send(rustix::thread::gettid()).unwrap();
                wired.recv().unwrap();
                ip("link set eth0 up");
                for _ in 0..leases {
                    got.send(acquire("eth0", MAC_BYTES).await.unwrap()).unwrap();
                }
            });
        });
        let place = place.recv().unwrap().as_raw_nonzero();
        ip(&format!(
            "link add eth0 address {MAC} netns {place} type veth peer name subnet0"
        ));
        ip("link set subnet0 up");
        wire.send(()).unwrap();
        story(lease).await;
        client.join().unwrap();
    });
}

#[test]
fn the_network_gives_the_interface_its_address_its_router_and_its_mtu() {
    with_client(2, |lease| async move {
        let folder = tempfile::tempdir().unwrap();
        let _subnet = Subnet::start_on(folder.path(), SUBNET).unwrap();
        let first = lease.recv().unwrap();
        assert_eq!(
            first,
            Lease {
                server: SUBNET.router,
                address: SUBNET.instance,
                prefix: 20,
                router: Some(SUBNET.router),
                resolvers: vec![SUBNET.router],
                mtu: Some(9001),
            }
        );
        // The address is the interface's: a client that comes again gets it again.
        assert_eq!(lease.recv().unwrap(), first);
    });
}

#[test]
fn a_server_that_comes_late_is_found() {
    with_client(1, |lease| async move {
        until("the client has asked", crate::WAIT_LIMIT, || received() > 0).await;
        let folder = tempfile::tempdir().unwrap();
        let _subnet = Subnet::start_on(folder.path(), SUBNET).unwrap();
        assert_eq!(lease.recv().unwrap().address, SUBNET.instance);
    });
}

/// How many packets have come over the wire.
fn received() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let mut lines = text.lines().map(str::trim_start);
    let counters = lines.find_map(|line| line.strip_prefix("subnet0:")).unwrap();
    counters.split_whitespace().nth(1).unwrap().parse().unwrap()
}
