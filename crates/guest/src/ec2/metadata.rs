//! The instance metadata service, version 2: a token first, and what is wanted with it.
//!
//! Version 1, which answers anybody who can send a request, is never asked.

use std::{io::Read, time::Duration};

use flate2::read::GzDecoder;
use peerpods_proto::payload::PARSED_LIMIT;
use peerpods_tunnel::network::{NetworkError, parse_mac};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

/// How long a token is needed.
const TOKEN_LIFETIME_SECONDS: &str = "60";
const TOKEN_LIFETIME_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";
/// Tokens of EC2 have 56 characters.
const TOKEN_LIMIT: usize = 1024;
/// A hardware address has 17 characters.
const MAC_LIMIT: usize = 64;

/// The service is beside the VM, and answers in milliseconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Pauses between attempts: the service may come up a moment after the VM.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A VM that has no payload by then is of no use to the pod that waits for it.
const LIMIT: Duration = Duration::from_secs(60);

/// What gzip's files begin with.
const GZIP: &[u8] = b"\x1f\x8b";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Item {
    UserData,
    PrimaryMac,
}

impl Item {
    fn path(self) -> &'static str {
        match self {
            Self::UserData => "/latest/user-data",
            Self::PrimaryMac => "/latest/meta-data/mac",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::UserData => "the user data",
            Self::PrimaryMac => "the primary interface's hardware address",
        }
    }

    fn request(self) -> &'static str {
        match self {
            Self::UserData => "the request for user data",
            Self::PrimaryMac => "the request for the primary interface's hardware address",
        }
    }

    fn limit(self) -> usize {
        match self {
            Self::UserData => PARSED_LIMIT,
            Self::PrimaryMac => MAC_LIMIT,
        }
    }
}

/// What was asked for was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The service cannot be reached, or breaks off.
    #[error("cannot {action} the instance metadata service")]
    Request {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// It did not answer in time.
    #[error("the instance metadata service does not answer within {REQUEST_LIMIT:?}")]
    Silent,
    /// It refuses.
    #[error("the instance metadata service answers {status} to {action}")]
    Status {
        /// What was asked for.
        action: &'static str,
        /// Its answer.
        status: StatusCode,
    },
    /// The instance was launched without user data.
    #[error("the instance has no user data: it was not launched for a peer pod")]
    NoUserData,
    /// An answer is longer than what is asked for can be.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// The most that it may have.
        limit: usize,
    },
    /// The token cannot be sent back.
    #[error("the instance metadata service gives a token that is none")]
    InvalidToken,
    /// What is said to be a hardware address is none.
    #[error("the instance metadata service gives a hardware address that is none")]
    InvalidMac(#[source] NetworkError),
    /// The user data is compressed, and damaged.
    #[error("the user data cannot be decompressed")]
    Decompress(#[source] std::io::Error),
}

impl MetadataError {
    /// Whether another attempt may succeed: not where the service has said no.
    fn retryable(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Silent => true,
            Self::Status { status, .. } => {
                // A token that has ended, and what servers answer that are busy or starting.
                *status == StatusCode::UNAUTHORIZED
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || status.is_server_error()
            }
            Self::NoUserData
            | Self::TooLarge { .. }
            | Self::InvalidToken
            | Self::InvalidMac(_)
            | Self::Decompress(_) => false,
        }
    }
}

/// The user data of the instance, decompressed where it is compressed by gzip; `service` is the service's URL, without a
/// path.
///
/// # Errors
/// [`MetadataError`], after a minute at the latest.
pub async fn user_data(service: &str) -> Result<Zeroizing<Vec<u8>>, MetadataError> {
    decompressed(fetch(service, Item::UserData).await?)
}

/// The hardware address of the instance's primary interface, whichever of them the service is asked by.
///
/// # Errors
/// [`MetadataError`], after a minute at the latest.
pub async fn primary_mac(service: &str) -> Result<[u8; 6], MetadataError> {
    let text = fetch(service, Item::PrimaryMac).await?;
    let text = String::from_utf8_lossy(&text);
    parse_mac(text.trim()).map_err(MetadataError::InvalidMac)
}

/// Asks, again where that may help.
async fn fetch(service: &str, item: Item) -> Result<Zeroizing<Vec<u8>>, MetadataError> {
    crate::image::install_tls_provider();
    let client = Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .build()
        .map_err(|source| MetadataError::Request {
            action: "make a client of",
            source,
        })?;
    let deadline = Instant::now() + LIMIT;
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match attempt(&client, service, item).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        if !error.retryable() || Instant::now() >= deadline {
            return Err(error);
        }
        tracing::debug!(error = peerpods_error::chain(&error), ?pause, "trying again");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(client: &Client, service: &str, item: Item) -> Result<Zeroizing<Vec<u8>>, MetadataError> {
    let once = async {
        let token = token(client, service).await?;
        let request = client
            .request(Method::GET, format!("{service}{}", item.path()))
            .header(TOKEN_HEADER, &*token);
        let answer = request.send().await.map_err(|source| MetadataError::Request {
            action: "ask",
            source,
        })?;
        match (answer.status(), item) {
            (StatusCode::OK, _) => body(answer, item.name(), item.limit()).await,
            (StatusCode::NOT_FOUND, Item::UserData) => Err(MetadataError::NoUserData),
            (status, _) => Err(MetadataError::Status {
                action: item.request(),
                status,
            }),
        }
    };
    timeout(REQUEST_LIMIT, once)
        .await
        .unwrap_or(Err(MetadataError::Silent))
}

async fn token(client: &Client, service: &str) -> Result<Zeroizing<String>, MetadataError> {
    let request = client
        .request(Method::PUT, format!("{service}/latest/api/token"))
        .header(TOKEN_LIFETIME_HEADER, TOKEN_LIFETIME_SECONDS);
    let answer = request.send().await.map_err(|source| MetadataError::Request {
        action: "ask for a token of",
        source,
    })?;
    match answer.status() {
        StatusCode::OK => {
            let bytes = body(answer, "a token", TOKEN_LIMIT).await?;
            let text = std::str::from_utf8(&bytes).map_err(|_| MetadataError::InvalidToken)?;
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(MetadataError::InvalidToken);
            }
            Ok(Zeroizing::new(text.to_owned()))
        }
        status => Err(MetadataError::Status {
            action: "the request for a token",
            status,
        }),
    }
}

async fn body(
    mut answer: Response,
    what: &'static str,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, MetadataError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let broken = |source| MetadataError::Request {
        action: "read an answer of",
        source,
    };
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit {
            return Err(MetadataError::TooLarge { what, limit });
        }
    }
    Ok(bytes)
}

fn decompressed(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, MetadataError> {
    if !bytes.starts_with(GZIP) {
        return Ok(bytes);
    }
    let mut plain = Zeroizing::new(Vec::new());
    let limit = u64::try_from(PARSED_LIMIT).unwrap_or(u64::MAX);
    GzDecoder::new(&bytes[..])
        .take(limit + 1)
        .read_to_end(&mut plain)
        .map_err(MetadataError::Decompress)?;
    if plain.len() > PARSED_LIMIT {
        return Err(MetadataError::TooLarge {
            what: "the user data",
            limit: PARSED_LIMIT,
        });
    }
    Ok(plain)
}
