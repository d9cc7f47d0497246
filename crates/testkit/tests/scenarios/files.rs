//! The files that kubelet gives every pod.

use peerpods_testkit::{PodBuilder, container, scenario};

scenario!(token_hosts_and_resolver_are_those_of_the_pod, bed, runtime, {
    let pod = PodBuilder::new("files", runtime, vec![container("main", "sleep 1000")]).start(bed);
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(pod.shell(&format!("cat {token}/namespace")), "default");
    assert_eq!(
        pod.shell(&format!("cut -d. -f1 {token}/token | head -c 3")),
        "eyJ"
    );
    assert!(
        pod.shell(&format!("cat {token}/ca.crt"))
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    let hosts = pod.shell("cat /etc/hosts");
    assert!(
        hosts.contains(&pod.address()) && hosts.contains(&pod.name),
        "{hosts}"
    );
    assert!(
        pod.shell("cat /etc/resolv.conf")
            .contains("nameserver 10.250.0.1")
    );
    assert_eq!(pod.shell("hostname"), pod.name);
});
