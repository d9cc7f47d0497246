//! The instance metadata service of one instance, version 2 only, as an instance launched with `HttpTokens=required` has it.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::http::{HttpAnswer, HttpReply, HttpRequest, HttpServer};

/// Where every instance finds the service.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

const TOKEN_PATH: &str = "/latest/api/token";
const LIFETIME_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
/// The longest that a token may live, in seconds: six hours.
const LIFETIME_LIMIT_SECONDS: u64 = 21_600;

/// What the service tells.
#[derive(Clone, Debug)]
pub struct InstanceFacts {
    /// For example `i-0123456789abcdef0`.
    pub instance_id: String,
    /// The image that it was launched from.
    pub image_id: String,
    /// For example `m6a.large`.
    pub instance_type: String,
    /// The account, twelve digits.
    pub account_id: String,
    /// For example `eu-central-1`.
    pub region: String,
    /// For example `eu-central-1a`.
    pub availability_zone: String,
    /// Its network interfaces; the first is the primary one.
    pub interfaces: Vec<InterfaceFacts>,
    /// What it was launched with, if anything.
    pub user_data: Option<Vec<u8>>,
}

/// What the service tells of a network interface.
#[derive(Clone, Debug)]
pub struct InterfaceFacts {
    /// Its address in the subnet.
    pub private_ip: Ipv4Addr,
    /// Its hardware address.
    pub mac: String,
}

impl InstanceFacts {
    /// The interface that is the instance's from its launch to its end.
    pub(super) fn primary(&self) -> &InterfaceFacts {
        self.interfaces.first().expect("every instance has an interface")
    }
}

/// A running service.
pub struct MetadataService {
    server: HttpServer,
    seen: Arc<Mutex<Vec<String>>>,
}

impl MetadataService {
    /// Serves at `address`. Packets of its answers pass `hop_limit` hosts: with 1 no router forwards them, so that only
    /// the instance itself gets a token.
    ///
    /// # Errors
    /// The address is not to be had.
    pub fn start(address: SocketAddr, hop_limit: u32, facts: InstanceFacts) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        // Accepted connections inherit it.
        listener.set_ttl(hop_limit)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, metadata) = (seen.clone(), Metadata::new(facts));
        let server = HttpServer::on(listener, move |request| {
            let line = format!("{} {}", request.method, request.target);
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            metadata.answer(request)
        })?;
        Ok(Self { server, seen })
    }

    /// Its address for clients.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What was asked for so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What one instance is told of itself.
pub(super) struct Metadata {
    facts: InstanceFacts,
    /// By path below `/latest/meta-data/`.
    more: BTreeMap<String, String>,
    tokens: Tokens,
}

impl Metadata {
    pub(super) fn new(facts: InstanceFacts) -> Self {
        Self::with(facts, BTreeMap::new())
    }

    /// Tells `more`, by path below `/latest/meta-data/`.
    pub(super) fn with(facts: InstanceFacts, more: BTreeMap<String, String>) -> Self {
        Self {
            facts,
            more,
            tokens: Tokens::default(),
        }
    }

    pub(super) fn answer(&self, request: &HttpRequest) -> HttpAnswer {
        let status = |status| HttpAnswer::new(status, "");
        match (request.method.as_str(), request.target.as_str()) {
            // A reverse proxy that an attacker talks through adds this header.
            ("PUT", TOKEN_PATH) if request.header("x-forwarded-for").is_some() => status(403),
            ("PUT", TOKEN_PATH) => match lifetime(request) {
                Some(lifetime) => self.tokens.issue(lifetime),
                None => status(400),
            },
            ("GET", _) if !self.tokens.is_valid(request.header(TOKEN_HEADER)) => status(401),
            ("GET", path) => match value(&self.facts, path).or_else(|| self.more(path)) {
                Some(value) => HttpAnswer::new(200, value),
                None => status(404),
            },
            _ => status(405),
        }
    }

    fn more(&self, path: &str) -> Option<Vec<u8>> {
        let value = self.more.get(path.strip_prefix("/latest/meta-data/")?)?;
        Some(value.clone().into_bytes())
    }
}

fn lifetime(request: &HttpRequest) -> Option<Duration> {
    let seconds = request.header(LIFETIME_HEADER)?.parse().ok()?;
    (1..=LIFETIME_LIMIT_SECONDS)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

fn value(facts: &InstanceFacts, path: &str) -> Option<Vec<u8>> {
    if path == "/latest/user-data" {
        return facts.user_data.clone();
    }
    if path == "/latest/dynamic/instance-identity/document" {
        return Some(identity_document(facts).into_bytes());
    }
    let path = path.strip_prefix("/latest/meta-data/")?;
    if let Some(path) = path.strip_prefix("network/interfaces/macs/") {
        return of_interfaces(&facts.interfaces, path).map(String::into_bytes);
    }
    let text = match path {
        "instance-id" => facts.instance_id.clone(),
        "ami-id" => facts.image_id.clone(),
        "instance-type" => facts.instance_type.clone(),
        "local-ipv4" => facts.primary().private_ip.to_string(),
        "mac" => facts.primary().mac.clone(),
        "placement/region" => facts.region.clone(),
        "placement/availability-zone" => facts.availability_zone.clone(),
        _ => return None,
    };
    Some(text.into_bytes())
}

/// What is told below `network/interfaces/macs/`: which interfaces there are, and of each a few things.
fn of_interfaces(interfaces: &[InterfaceFacts], path: &str) -> Option<String> {
    if path.is_empty() {
        let lines: Vec<_> = interfaces.iter().map(|one| format!("{}/", one.mac)).collect();
        return Some(lines.join("\n"));
    }
    let (mac, item) = path.split_once('/')?;
    let number = interfaces.iter().position(|one| one.mac == mac)?;
    match item {
        "mac" => Some(mac.to_owned()),
        "device-number" => Some(number.to_string()),
        "local-ipv4s" => Some(interfaces[number].private_ip.to_string()),
        _ => None,
    }
}

fn identity_document(facts: &InstanceFacts) -> String {
    let document = json!({
        "accountId": facts.account_id,
        "architecture": "x86_64",
        "availabilityZone": facts.availability_zone,
        "imageId": facts.image_id,
        "instanceId": facts.instance_id,
        "instanceType": facts.instance_type,
        "privateIp": facts.primary().private_ip,
        "region": facts.region,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

/// The tokens that were given, and when each ends.
#[derive(Default)]
struct Tokens(Mutex<Vec<(String, Instant)>>);

impl Tokens {
    /// They are numbered: nobody here guesses. AWS's clients insist on being told the lifetime that they have asked for.
    fn issue(&self, lifetime: Duration) -> HttpAnswer {
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let token = format!("AQAEATESTTOKEN-{:08}==", issued.len());
        issued.push((token.clone(), Instant::now() + lifetime));
        HttpAnswer::Reply(HttpReply {
            status: 200,
            headers: vec![(LIFETIME_HEADER.to_owned(), lifetime.as_secs().to_string())],
            body: token.into_bytes(),
        })
    }

    fn is_valid(&self, token: Option<&str>) -> bool {
        let issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        issued
            .iter()
            .any(|(known, end)| Some(known.as_str()) == token && Instant::now() < *end)
    }
}
