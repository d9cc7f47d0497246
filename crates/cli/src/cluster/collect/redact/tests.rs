//! What is removed, and what is not.

use super::*;

/// As AWS documents them: no account has them.
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

#[test]
fn what_looks_like_a_credential_goes() {
    let cleaned = |text: &str| Redactor::default().clean_text(text);
    for (text, secret) in [
        (format!("as {KEY_ID} in eu"), KEY_ID),
        (format!("the key {SECRET_KEY}."), SECRET_KEY),
        ("AWS_SECRET_ACCESS_KEY=abc123".to_owned(), "abc123"),
        (r#"{"password":"hunter2","a":1}"#.to_owned(), "hunter2"),
        (r#"{\"password\":\"hunter2\"}"#.to_owned(), "hunter2"),
        ("password: hunter2".to_owned(), "hunter2"),
        ("Authorization: Basic dXNlcjpwYXNz".to_owned(), "dXNlcjpwYXNz"),
        ("Authorization: Bearer abcdefgh12".to_owned(), "abcdefgh12"),
        ("pull with bearer abcdefgh12".to_owned(), "abcdefgh12"),
        ("get https://me:hunter2@registry/v2/".to_owned(), "hunter2"),
        (
            r#"{"auths":{"r":{"auth":"dXNlcjpwYXNz"}}}"#.to_owned(),
            "dXNlcjpwYXNz",
        ),
        (
            "got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln".to_owned(),
            "eyJzdWIi",
        ),
        ("GET /x?X-Amz-Signature=0123abcd&b=1".to_owned(), "0123abcd"),
        (
            "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----".to_owned(),
            "MHcCAQ",
        ),
        ("-----BEGIN PRIVATE KEY-----\\nMHcCAQ".to_owned(), "MHcCAQ"),
    ] {
        let cleaned = cleaned(&text);
        assert!(!cleaned.contains(secret), "{text} became {cleaned}");
        assert!(cleaned.contains(REMOVED), "{text} became {cleaned}");
    }
}

#[test]
fn what_tells_support_something_stays() {
    let cleaned = |text: &str| Redactor::default().clean_text(text);
    for text in [
        "pod default/web is Running on node-1, instance i-0123456789abcdef0",
        "image sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "cloudSecretName: peer-pods-secret",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "/var/lib/kubelet/pods/Volumes/kubernetes1/etc/hosts",
        "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/token",
        "dial 10.0.0.1:15150 took 12 ms",
    ] {
        assert_eq!(cleaned(text), text);
    }
}

#[test]
fn a_secrets_values_go_wherever_they_stand() {
    let mut redactor = Redactor::default();
    let config =
        json!({"auths": {"registry": {"username": "robot-7", "password": "correct horse"}}}).to_string();
    redactor.learn(&json!({"data": {
        "plain": STANDARD.encode("battery staple\n"), ".dockerconfigjson": STANDARD.encode(&config),
        "flag": STANDARD.encode("true"), "ca.crt": STANDARD.encode("a certificate"),
    }}));
    let text = format!(
        "battery staple; {}; correct horse; true; a certificate",
        STANDARD.encode("battery staple\n")
    );
    assert_eq!(
        redactor.clean_text(&text),
        "(removed); (removed); (removed); true; a certificate"
    );
}

#[test]
fn objects_lose_values_by_the_names_beside_them() {
    let mut object = json!({
        "metadata": {
            "name": "peer-pods-cm", "managedFields": [{"manager": "x"}],
            "annotations": {LAST_APPLIED: "{\"data\":{\"a\":\"hush\"}}", "b": "c"},
        },
        "data": {"CLOUD_PROVIDER": "aws", "REGISTRY_PASSWORD": "hush", "PODVM_AMI_ID": "ami-1", "EMPTY_TOKEN": ""},
        "spec": {
            "automountServiceAccountToken": true, "cloudSecretName": "peer-pods-secret",
            "containers": [{"env": [
                {"name": "DB_PASSWORD", "value": "hush"}, {"name": "MODE", "value": "fast"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]}],
        },
    });
    Redactor::default().clean(&mut object);
    let text = object.to_string();
    assert!(
        !text.contains("hush") && !text.contains("managedFields"),
        "{text}"
    );
    assert_eq!(object["data"]["CLOUD_PROVIDER"], "aws");
    assert_eq!(object["data"]["PODVM_AMI_ID"], "ami-1");
    assert_eq!(object["data"]["EMPTY_TOKEN"], "");
    assert_eq!(object["spec"]["cloudSecretName"], "peer-pods-secret");
    assert_eq!(object["spec"]["containers"][0]["env"][1]["value"], "fast");
    assert_eq!(object["metadata"]["annotations"], json!({"b": "c"}));
}

#[test]
fn of_a_secret_the_archive_has_names_and_sizes() {
    let secret = json!({
        "metadata": {"name": "peer-pods-secret"}, "type": "Opaque", "data": {"AWS_SECRET_ACCESS_KEY": STANDARD.encode("hush")},
    });
    let mut outline = outline(&secret);
    Redactor::default().clean(&mut outline);
    assert_eq!(outline["bytesOfKeys"]["AWS_SECRET_ACCESS_KEY"], 4);
    assert!(!outline.to_string().contains("hush"));
}
