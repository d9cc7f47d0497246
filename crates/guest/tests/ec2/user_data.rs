//! The boot payload from the instance metadata service.

use std::{
    io::Write,
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
};

use flate2::{Compression, write::GzEncoder};
use peerpods_guest::ec2::metadata::{MetadataError, primary_mac, user_data};
use peerpods_testkit::{
    ec2::MetadataService,
    http::{HttpAnswer, HttpServer},
};

use crate::instance::facts;

fn service(user_data: Option<Vec<u8>>) -> MetadataService {
    MetadataService::start((Ipv4Addr::LOCALHOST, 0).into(), 1, facts(user_data)).unwrap()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn it_is_fetched_with_a_token() {
    let service = service(Some(b"#cloud-config\n".to_vec()));
    assert_eq!(**user_data(&service.url()).await.unwrap(), *b"#cloud-config\n");
    assert_eq!(
        service.requests(),
        ["PUT /latest/api/token", "GET /latest/user-data"]
    );
}

#[tokio::test]
async fn the_primary_interface_is_told() {
    let service = service(None);
    assert_eq!(primary_mac(&service.url()).await.unwrap(), [2, 0, 0, 0, 0, 7]);
    let strange = HttpServer::start(|_| HttpAnswer::new(200, "eth0"));
    let error = primary_mac(&strange.url()).await.unwrap_err();
    assert!(matches!(error, MetadataError::InvalidMac(_)), "{error}");
}

#[tokio::test]
async fn it_may_be_packed() {
    let text = "#cloud-config\n".repeat(5_000);
    let service = service(Some(packed(text.as_bytes())));
    assert_eq!(**user_data(&service.url()).await.unwrap(), *text.as_bytes());
}

#[tokio::test]
async fn what_unpacks_without_end_or_not_at_all_is_refused() {
    let bomb = service(Some(packed(&vec![0; 64 << 20])));
    let error = user_data(&bomb.url()).await.unwrap_err();
    assert_eq!(error.to_string(), "the user data has more than 262144 bytes");
    let damaged = service(Some(packed(b"#cloud-config\n")[..20].to_vec()));
    let error = user_data(&damaged.url()).await.unwrap_err();
    assert!(matches!(error, MetadataError::Decompress(_)), "{error}");
}

#[tokio::test]
async fn an_instance_without_user_data_says_so_at_once() {
    let error = user_data(&service(None).url()).await.unwrap_err();
    assert!(matches!(error, MetadataError::NoUserData), "{error}");
}

#[tokio::test]
async fn a_service_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let asked = std::sync::Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let busy = HttpServer::start(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        0 => HttpAnswer::HangUp,
        1 => HttpAnswer::new(503, ""),
        2 => HttpAnswer::new(200, "token"),
        // The token has ended meanwhile.
        3 => HttpAnswer::new(401, ""),
        4 => HttpAnswer::new(200, "another"),
        _ => {
            assert_eq!(request.header("x-aws-ec2-metadata-token"), Some("another"));
            HttpAnswer::new(200, "#cloud-config\n")
        }
    });
    assert_eq!(**user_data(&busy.url()).await.unwrap(), *b"#cloud-config\n");
    assert_eq!(asked.load(Ordering::SeqCst), 6);

    let disabled = HttpServer::start(|_| HttpAnswer::new(403, ""));
    let error = user_data(&disabled.url()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the instance metadata service answers 403 Forbidden to the request for a token"
    );
}

#[tokio::test]
async fn a_token_that_cannot_be_one_is_refused() {
    for token in ["", "two\r\nlines", "with space"] {
        let server = HttpServer::start(move |_| HttpAnswer::new(200, token));
        let error = user_data(&server.url()).await.unwrap_err();
        assert!(matches!(error, MetadataError::InvalidToken), "{token:?}: {error}");
    }
}
