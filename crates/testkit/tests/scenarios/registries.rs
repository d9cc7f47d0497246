//! Registries that want to know who asks. The node pulls an image, and so does the VM: each needs the credentials.

use std::time::Duration;

use peerpods_testkit::{Bed, Pod, PodBuilder, Runtime, container, scenario, wait_for};
use serde_json::{Value, json};

/// For those who know a password.
const REGISTRY: &str = "10.250.0.1:5001";
/// The password of all of the registry's users, as the bed is made.
const PASSWORD: &str = "first-password";
/// It, and "second-password", as the registry keeps them.
const FIRST: &str = "$2b$04$abcdefghijklmnopqrstuuT2j8U6U5rBY6aIOMzZiJOWuJPYKLLOe";
const SECOND: &str = "$2b$04$abcdefghijklmnopqrstuukluLair1GoPMg9PQfjHAu2MGkeVdhk2";
const LIMIT: Duration = Duration::from_secs(120);

fn pod_of(name: &str, runtime: Runtime, image: &str, secrets: &[&str]) -> PodBuilder {
    let mut main = container("main", "echo pulled; sleep 1000");
    main["image"] = json!(format!("{REGISTRY}/{image}"));
    main["imagePullPolicy"] = json!("Always");
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    PodBuilder::new(name, runtime, vec![main]).spec("imagePullSecrets", json!(secrets))
}

/// A peer pod whose image is on the node, for which it was pulled by other means: what fails, fails in the VM.
fn peer_pod_of_image_on_the_node<'bed>(bed: &'bed Bed, name: &str, secrets: &[&str]) -> Pod<'bed> {
    let image = format!("{REGISTRY}/probe:1");
    let user = format!("reader:{PASSWORD}");
    let pull = [
        "ctr",
        "--namespace",
        "k8s.io",
        "images",
        "pull",
        "--plain-http",
        "--user",
        &user,
        &image,
    ];
    bed.enter(&pull).text();
    let mut main = container("main", "sleep 1000");
    main["image"] = json!(image);
    main["imagePullPolicy"] = json!("Never");
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    PodBuilder::new(name, Runtime::PeerPod, vec![main])
        .spec("imagePullSecrets", json!(secrets))
        .create(bed)
}

/// `kubectl create secret docker-registry`, in place of one that is there.
fn make_secret(bed: &Bed, name: &str, user: &str, password: &str) {
    let (server, user, password) = (
        format!("--docker-server={REGISTRY}"),
        format!("--docker-username={user}"),
        format!("--docker-password={password}"),
    );
    let secret = bed.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        name,
        &server,
        &user,
        &password,
        "--dry-run=client",
        "--output=json",
    ]);
    bed.apply(&serde_json::from_str(&secret.text()).expect("kubectl prints JSON"));
}

#[track_caller]
fn wait_told(pod: &Pod<'_>, parts: &[&str]) {
    wait_for(&format!("events name {parts:?}"), LIMIT, || {
        let told = format!("{}\n{}", pod.status(), pod.events());
        if parts.iter().all(|part| told.contains(part)) {
            Ok(())
        } else {
            Err(told)
        }
    });
}

scenario!(a_pods_pull_secret_is_used, bed, runtime, {
    let secret = format!("reader-{}", runtime.suffix());
    make_secret(bed, &secret, "reader", PASSWORD);
    let pod = pod_of("private", runtime, "busybox:1.35", &[&secret]).start(bed);
    assert_eq!(pod.logs(&[]).text(), "pulled");
});

scenario!(the_pull_secrets_of_its_service_account_are_used, bed, runtime, {
    let name = format!("with-secret-{}", runtime.suffix());
    make_secret(bed, &name, "reader", PASSWORD);
    bed.apply(&json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name},
        "imagePullSecrets": [{"name": name}],
    }));
    let pod = pod_of("account", runtime, "busybox:1.35", &[])
        .spec("serviceAccountName", json!(name))
        .start(bed);
    assert_eq!(pod.logs(&[]).text(), "pulled");
});

scenario!(of_several_secrets_the_one_that_works_is_used, bed, runtime, {
    let (wrong, legacy) = (
        format!("wrong-{}", runtime.suffix()),
        format!("legacy-{}", runtime.suffix()),
    );
    make_secret(bed, &wrong, "reader", "no-password");
    bed.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": legacy}, "type": "kubernetes.io/dockercfg",
        "stringData": {".dockercfg": json!({"10.250.0.1:5001": {"username": "reader", "password": PASSWORD}}).to_string()},
    }));
    let pod = pod_of(
        "several",
        runtime,
        "busybox:1.35",
        &["no-such-secret", &wrong, &legacy],
    )
    .start(bed);
    assert_eq!(pod.logs(&[]).text(), "pulled");
});

scenario!(what_the_node_may_pull_every_pod_may, bed, runtime, {
    let pod = pod_of("nodes", runtime, "node/busybox:1.35", &[]).start(bed);
    assert_eq!(pod.logs(&[]).text(), "pulled");
});

/// Has the registry expect another password of a user.
fn change_password(bed: &Bed, user: &str, hash: &str) {
    let file = bed.program("state/config/htpasswd");
    let change = format!("s|^{user}:.*|{user}:{hash}|");
    bed.enter(&["sed", "-i", &change, &file]).text();
}

scenario!(
    a_password_that_was_changed_is_used_by_the_next_pod,
    bed,
    runtime,
    {
        let user = format!("rotated-{}", runtime.suffix());
        change_password(bed, &user, FIRST);
        make_secret(bed, &user, &user, PASSWORD);
        let before = pod_of("before", runtime, "busybox:1.35", &[&user]).start(bed);
        assert_eq!(before.logs(&[]).text(), "pulled");

        change_password(bed, &user, SECOND);
        make_secret(bed, &user, &user, "second-password");
        let after = pod_of("after", runtime, "busybox:1.35", &[&user]).start(bed);
        assert_eq!(after.logs(&[]).text(), "pulled");
    }
);

#[test]
fn without_a_secret_the_vm_is_refused_and_says_what_to_do() {
    let bed = Bed::connect();
    let pod = peer_pod_of_image_on_the_node(&bed, "no-secret", &[]);
    wait_told(
        &pod,
        &[
            REGISTRY,
            "refuses access",
            "the pod names no imagePullSecrets: add one",
        ],
    );
}

#[test]
fn a_wrong_password_is_told_with_its_secret() {
    let bed = Bed::connect();
    make_secret(&bed, "wrong", "reader", "no-password");
    let pod = peer_pod_of_image_on_the_node(&bed, "wrong-password", &["wrong", "no-such-secret"]);
    wait_told(
        &pod,
        &[
            REGISTRY,
            "refuses access",
            "tried with the credentials of Secret default/wrong",
            "Secret default/no-such-secret does not exist",
        ],
    );
    assert!(!pod.events().contains("no-password"), "{}", pod.events());
}

#[test]
fn a_password_is_nowhere_on_the_node() {
    let bed = Bed::connect();
    // A word that is in no other scenario.
    bed.kubectl(&["delete", "secret", "unspoken", "--ignore-not-found"])
        .text();
    make_secret(&bed, "unspoken", "reader", "unspoken-password");
    let pod = peer_pod_of_image_on_the_node(&bed, "unspoken", &["unspoken"]);
    wait_told(&pod, &["tried with the credentials of Secret default/unspoken"]);
    let encoded = "dW5zcG9rZW4tcGFzc3dvcmQ";
    let search = format!(
        "grep --recursive --files-with-matches --text -e unspoken-password -e {encoded} \
         /run/peerpod /run/peerpod-namespaces /var/lib/cloud-api-adaptor /run/containerd /var/log"
    );
    let found = bed.enter(&["sh", "-c", &search]);
    assert_eq!(found.stdout, "", "{}", found.stderr);
}
