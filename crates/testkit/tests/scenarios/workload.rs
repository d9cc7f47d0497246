//! A pod runs what its spec says.

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, scenario};
use serde_json::json;

scenario!(
    command_arguments_environment_directory_and_user_are_those_of_the_spec,
    bed,
    runtime,
    {
        let mut main = container("main", "");
        main["command"] = json!(["sh", "-c", "echo $0 $1 $GREETING; pwd; id -u; id -g; sleep 1000"]);
        main["args"] = json!(["first", "second"]);
        main["env"] = json!([{"name": "GREETING", "value": "hello world"}]);
        main["workingDir"] = json!("/tmp");
        main["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 1001});
        let pod = PodBuilder::new("spec", runtime, vec![main]).start(bed);
        assert_eq!(pod.logs(&[]).text(), "first second hello world\n/tmp\n1000\n1001");
    }
);

scenario!(two_containers_share_the_network_and_nothing_else, bed, runtime, {
    let server = container(
        "server",
        "mkdir /www; echo served > /www/index.html; httpd -f -p 8080 -h /www",
    );
    let client = container("client", "sleep 1000");
    let pod = PodBuilder::new("two", runtime, vec![server, client]).start(bed);
    let fetch = "until wget -q -O - http://127.0.0.1:8080/; do sleep 0.2; done";
    let fetched = bed.kubectl(&["exec", &pod.name, "-c", "client", "--", "sh", "-c", fetch]);
    assert_eq!(fetched.text(), "served");
    let looked = bed.kubectl(&["exec", &pod.name, "-c", "client", "--", "ls", "/www"]);
    assert_ne!(looked.code, 0, "the client sees the server's files");
});

scenario!(an_image_is_taken_by_its_digest, bed, runtime, {
    let pod = PodBuilder::new("by-tag", runtime, vec![container("main", "sleep 1000")]).start(bed);
    let id = pod.container_status("main")["imageID"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(id.starts_with("10.250.0.1:5000/busybox@sha256:"), "{id}");
    let mut main = container("main", "echo the same; sleep 1000");
    main["image"] = json!(id);
    let same = PodBuilder::new("by-digest", runtime, vec![main]).start(bed);
    assert_eq!(same.logs(&[]).text(), "the same");
});

#[test]
fn a_peer_pod_has_a_kernel_of_its_own() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("kernel", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    let guest = pod.shell("uname -r");
    let node = bed.enter(&["uname", "-r"]).text();
    assert_ne!(guest, node);
    assert!(guest.contains("cloud"), "the guest's kernel is {guest}");
}
