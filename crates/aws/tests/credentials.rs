//! Where credentials and the region come from, as an administrator sets it: each in a process of its own, by its variables.
#![allow(clippy::unwrap_used)]

use std::{env, process::Command};

use peerpods_aws::{Action, Aws, AwsSettings, Metadata, Parameters};
use peerpods_testkit::http::{HttpAnswer, HttpRequest, HttpServer};
use serde::de::IgnoredAny;

/// Set in the process that makes a call.
const CALLER: &str = "PEERPODS_TEST_CALLER";

/// What a source of credentials answers.
const KEYS: &str = r#"{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "AKIDOFROLE", "SecretAccessKey": "secret",
    "Token": "session", "Expiration": "2099-01-01T00:00:00Z"}"#;

const ASSUMED: &str = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
    <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIDOFWEB</AccessKeyId>\
    <SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken>\
    <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
    </AssumeRoleWithWebIdentityResponse>";

/// Everything that a worker node of EC2 can ask.
fn surroundings(request: &HttpRequest) -> HttpAnswer {
    let found = |text: &str| HttpAnswer::new(200, text);
    match (request.method.as_str(), request.target.as_str()) {
        ("PUT", "/latest/api/token") => HttpAnswer::Reply(peerpods_testkit::http::HttpReply {
            status: 200,
            headers: vec![("x-aws-ec2-metadata-token-ttl-seconds".into(), "21600".into())],
            body: b"a-session".into(),
        }),
        ("GET", _) if request.header("x-aws-ec2-metadata-token") == Some("a-session") => {
            match request.target.trim_end_matches('/') {
                "/latest/meta-data/placement/region" => found("us-west-2"),
                "/latest/meta-data/iam/security-credentials" => found("worker"),
                "/latest/meta-data/iam/security-credentials/worker" => found(KEYS),
                _ => HttpAnswer::new(404, "no such value"),
            }
        }
        ("GET", "/pod-identity") if request.header("authorization") == Some("of-the-pod") => found(KEYS),
        ("POST", _) if request.text().contains("AssumeRoleWithWebIdentity") => {
            assert!(request.text().contains("WebIdentityToken=of-the-account"));
            found(ASSUMED)
        }
        // Tells in its refusal who asked, and where.
        ("POST", _) => {
            let signed = request.header("authorization").unwrap_or_default();
            let caller = signed
                .split("Credential=")
                .nth(1)
                .and_then(|rest| rest.split(',').next());
            HttpAnswer::new(
                400,
                format!(
                    "<Response><Errors><Error><Code>Asked</Code><Message>{} with {}</Message></Error></Errors></Response>",
                    caller.unwrap_or_default(),
                    request.header("x-amz-security-token").unwrap_or("no token"),
                ),
            )
        }
        _ => HttpAnswer::new(404, "nothing here"),
    }
}

/// Not a test of its own: makes a call as its variables say, and prints what came of it.
#[tokio::test]
async fn caller() {
    if env::var_os(CALLER).is_none() {
        return;
    }
    match Aws::connect(&AwsSettings::default()).await {
        Ok(aws) => {
            let answer = aws
                .ec2()
                .call::<IgnoredAny>(Action::DescribeInstances, &Parameters::new())
                .await;
            println!("answer: {}", answer.unwrap_err());
        }
        Err(error) => println!("answer: {error}"),
    }
}

/// What a caller with these variables, and no others of AWS, was answered.
fn answer(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "caller", "--nocapture"])
        .env(CALLER, "yes")
        .env("HOME", "/nonexistent");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("answer: "));
    line.unwrap_or_else(|| panic!("no answer: {text}")).1.to_owned()
}

fn today() -> String {
    let output = Command::new("date").args(["--utc", "+%Y%m%d"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What EC2 says of a caller.
fn asked(key: &str, region: &str, token: &str) -> String {
    format!(
        "AWS refuses DescribeInstances: Asked: {key}/{}/{region}/ec2/aws4_request with {token}",
        today()
    )
}

#[test]
fn keys_of_the_secret() {
    let server = HttpServer::start(surroundings);
    let answer = answer(&[
        ("AWS_ACCESS_KEY_ID", "AKIDOFSECRET"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL_EC2", &server.url()),
    ]);
    assert_eq!(answer, asked("AKIDOFSECRET", "eu-central-1", "no token"));
}

#[test]
fn a_web_identity_as_irsa_gives_it() {
    let server = HttpServer::start(surroundings);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "of-the-account").unwrap();
    let answer = answer(&[
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/peerpods"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.path().to_str().unwrap()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", &server.url()),
    ]);
    assert_eq!(answer, asked("AKIDOFWEB", "eu-central-1", "session"));
}

#[test]
fn a_pod_identity_of_eks() {
    let server = HttpServer::start(surroundings);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "of-the-pod").unwrap();
    let answer = answer(&[
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &format!("{}/pod-identity", server.url()),
        ),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            file.path().to_str().unwrap(),
        ),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", &server.url()),
    ]);
    assert_eq!(answer, asked("AKIDOFROLE", "eu-central-1", "session"));
}

#[test]
fn the_role_and_region_of_the_node() {
    let server = HttpServer::start(surroundings);
    let answer = answer(&[
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server.url()),
        ("AWS_ENDPOINT_URL", &server.url()),
    ]);
    assert_eq!(answer, asked("AKIDOFROLE", "us-west-2", "session"));
}

#[test]
fn what_is_empty_is_not_set() {
    let server = HttpServer::start(surroundings);
    let answer = answer(&[
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_REGION", ""),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server.url()),
        ("AWS_ENDPOINT_URL", &server.url()),
    ]);
    assert_eq!(answer, asked("AKIDOFROLE", "us-west-2", "session"));
}

#[test]
fn a_profile_of_the_shared_files() {
    let server = HttpServer::start(surroundings);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let answer = answer(&[
        ("AWS_PROFILE", "pods"),
        (
            "AWS_SHARED_CREDENTIALS_FILE",
            &file(
                "credentials",
                "[pods]\naws_access_key_id=AKIDOFPROFILE\naws_secret_access_key=secret\n",
            ),
        ),
        (
            "AWS_CONFIG_FILE",
            &file("config", "[profile pods]\nregion=ap-south-1\n"),
        ),
        ("AWS_ENDPOINT_URL_EC2", &server.url()),
    ]);
    assert_eq!(answer, asked("AKIDOFPROFILE", "ap-south-1", "no token"));
}

#[test]
fn nothing_at_all_is_said_with_what_to_do() {
    let server = HttpServer::start(|_| HttpAnswer::new(404, "nothing here"));
    let nowhere = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url());
    let no_region = answer(&[(nowhere.0, &nowhere.1)]);
    assert!(
        no_region.contains("set AWS_REGION in the ConfigMap peer-pods-cm"),
        "{no_region}"
    );
    let no_keys = answer(&[(nowhere.0, &nowhere.1), ("AWS_REGION", "eu-central-1")]);
    assert!(
        no_keys.contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret"),
        "{no_keys}"
    );
}

#[tokio::test]
async fn the_instance_tells_what_it_has_and_what_not() {
    let settings = AwsSettings {
        metadata_endpoint: Some(HttpServer::start(surroundings).url()),
        ..AwsSettings::default()
    };
    let metadata = Metadata::new(&settings).unwrap();
    assert_eq!(
        metadata.get("placement/region").await.unwrap().as_deref(),
        Some("us-west-2")
    );
    assert_eq!(metadata.get("public-keys/").await.unwrap(), None);
}
