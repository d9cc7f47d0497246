//! What the client makes of a service that does not answer as it should.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};

use peerpods_aws::{Action, Aws, AwsError, AwsSettings, Parameters, RefusalKind};
use peerpods_testkit::http::{HttpAnswer, HttpServer};
use serde::de::IgnoredAny;
use support::account;

/// EC2 that gives these answers, one after the other, and how often it was asked.
async fn ec2(answers: Vec<HttpAnswer>) -> (Aws, Arc<Mutex<usize>>) {
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let server = HttpServer::start(move |request| {
        assert!(
            request
                .header("authorization")
                .unwrap()
                .contains("/eu-central-1/ec2/aws4_request")
        );
        let mut count = count.lock().unwrap();
        *count += 1;
        answers[*count - 1].clone()
    });
    let settings = AwsSettings {
        ec2_endpoint: Some(server.url()),
        ..account()
    };
    (Aws::connect(&settings).await.unwrap(), asked)
}

async fn describe(aws: &Aws) -> Result<IgnoredAny, AwsError> {
    aws.ec2()
        .call(Action::DescribeInstances, &Parameters::new())
        .await
}

fn refusal(status: u16, code: &str) -> HttpAnswer {
    let text = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>"
    );
    HttpAnswer::new(status, text)
}

fn success() -> HttpAnswer {
    HttpAnswer::new(200, "<DescribeInstancesResponse/>")
}

#[tokio::test]
async fn what_would_make_another_one_is_not_repeated_in_doubt() {
    for lost in [HttpAnswer::HangUp, refusal(500, "InternalError")] {
        let (aws, asked) = ec2(vec![refusal(503, "RequestLimitExceeded"), lost]).await;
        let allocated = aws
            .ec2()
            .call::<IgnoredAny>(Action::AllocateAddress, &Parameters::new())
            .await;
        assert!(allocated.unwrap_err().is_doubtful());
        assert_eq!(*asked.lock().unwrap(), 2, "it was throttled, which made nothing");
    }
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    let (aws, asked) = ec2(vec![
        refusal(503, "RequestLimitExceeded"),
        refusal(503, "Unavailable"),
        HttpAnswer::HangUp,
        HttpAnswer::new(502, "<html>bad gateway</html>"),
        success(),
    ])
    .await;
    describe(&aws).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), 5);
}

#[tokio::test]
async fn what_does_not_pass_is_told_at_once() {
    for (code, kind) in [
        ("UnauthorizedOperation", RefusalKind::Denied),
        ("InsufficientInstanceCapacity", RefusalKind::Capacity),
        ("InvalidParameterValue", RefusalKind::Invalid),
        ("SomethingNew", RefusalKind::Unclassified),
    ] {
        let (aws, asked) = ec2(vec![refusal(400, code)]).await;
        let error = describe(&aws).await.unwrap_err();
        assert_eq!(error.refusal(), Some(kind));
        assert_eq!(
            error.to_string(),
            format!("AWS refuses DescribeInstances: {code}: no")
        );
        assert_eq!(*asked.lock().unwrap(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error() {
    let (aws, _asked) = ec2(vec![HttpAnswer::new(200, "{}"), HttpAnswer::new(200, vec![0xff])]).await;
    for _ in 0..2 {
        let error = describe(&aws).await.unwrap_err();
        assert!(
            matches!(
                error,
                AwsError::Unreadable {
                    action: "DescribeInstances",
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_named() {
    let settings = AwsSettings {
        ec2_endpoint: Some("not a url".to_owned()),
        ..account()
    };
    let error = describe(&Aws::connect(&settings).await.unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write the request DescribeInstances to not a url"
    );
}
