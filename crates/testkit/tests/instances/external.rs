//! A pod that reaches the outside by its instance's second network interface.

use peerpods_testkit::{Bed, NAMESPACE, PodBuilder, Runtime, container, wait_for};
use serde_json::{Value, json};

use crate::{BOOT_LIMIT, END_LIMIT, account::Account, wait_as_before};

const ADAPTOR: &str = "cloud-api-adapt";
const SOCKET: &str = "/run/peerpod/hypervisor.sock";
/// The bed's networks of pods and of services.
const CLUSTER: &str = "10.244.0.0/24, 10.96.0.0/16";
const SERVE: &str = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www";

/// VMs have a second interface for as long as this is there.
struct SecondInterfaces<'bed>(&'bed Bed);

impl<'bed> SecondInterfaces<'bed> {
    /// Sets it, as an administrator does: the operator replaces the adaptor.
    fn of(bed: &'bed Bed) -> Self {
        let set = Self(bed);
        set.change(&json!({"EXTERNAL_NETWORK_VIA_PODVM": "true", "POD_SUBNET_CIDRS": CLUSTER}));
        set
    }

    fn change(&self, settings: &Value) {
        let patch = json!({"data": settings}).to_string();
        let before = self.0.daemons(ADAPTOR);
        let object = ["-n", NAMESPACE, "patch", "configmap", "peer-pods-cm"];
        let how = ["--type=merge", "--patch", &patch];
        self.0.kubectl(&[&object[..], &how[..]].concat()).text();
        wait_for("an adaptor with other settings serves", END_LIMIT, || {
            let now = self.0.daemons(ADAPTOR);
            let sockets = self.0.enter(&["cat", "/proc/net/unix"]).text();
            if now.len() == 1 && now != before && sockets.contains(SOCKET) {
                Ok(())
            } else {
                Err(format!("{now:?}, before {before:?}"))
            }
        });
    }
}

impl Drop for SecondInterfaces<'_> {
    fn drop(&mut self) {
        self.change(&json!({"EXTERNAL_NETWORK_VIA_PODVM": null, "POD_SUBNET_CIDRS": null}));
    }
}

#[test]
fn the_outside_is_reached_by_the_instance_and_the_cluster_by_the_node() {
    let bed = Bed::connect();
    let before = Account::of(&bed);
    let set = SecondInterfaces::of(&bed);
    let mut web = container("web", SERVE);
    web["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
    let pod = PodBuilder::new("external", Runtime::PeerPod, vec![web]).create(&bed);
    pod.wait_ready_within(BOOT_LIMIT);
    assert_eq!(Account::of(&bed).interfaces.len(), before.interfaces.len() + 2);

    // The world is behind the second interface, and the cluster where it is for any pod.
    let fetch = |url: &str| pod.shell(&format!("timeout 20 wget -q -O - {url}"));
    assert!(pod.shell("ip route get 198.51.100.1").contains("dev external0"));
    assert!(!fetch("http://198.51.100.1/").is_empty());
    assert!(pod.shell("ip route get 10.96.0.1").contains("dev eth0"));
    assert!(
        pod.shell("nslookup kubernetes.default.svc.cluster.local")
            .contains("10.96.0.1")
    );
    let page = format!("http://{}:8080/", pod.address());
    let fetched = bed.enter(&["busybox", "wget", "-q", "-O", "-", &page]).text();
    assert_eq!(fetched, pod.name);
    // The interface does not lead to what the instance is told of itself.
    let ask = "timeout 5 wget -q -O - http://169.254.169.254/latest/user-data || echo refused";
    assert_eq!(pod.shell(ask), "refused");

    pod.delete();
    drop(set);
    wait_as_before(&bed, &before);
}
