//! An account of moto's server, and what its owner asks there, past everything that stands in front of it.

use std::{io, net::SocketAddr};

use super::emulator::REGION;
use crate::http::{HttpReply, HttpRequest, forward};

/// Tells moto whose request it is.
const ACCOUNT_HEADER: &str = "x-moto-account-id";

/// One account.
#[derive(Clone, Debug)]
pub(super) struct Account {
    moto: SocketAddr,
    number: String,
}

impl Account {
    pub(super) fn new(moto: SocketAddr, number: impl ToString) -> Self {
        Self {
            moto,
            number: number.to_string(),
        }
    }

    /// Twelve digits.
    pub(super) fn number(&self) -> &str {
        &self.number
    }

    /// Sends a request on as one of this account.
    pub(super) fn forward(&self, http: &HttpRequest) -> HttpReply {
        let mut http = http.clone();
        http.headers
            .push((ACCOUNT_HEADER.to_owned(), self.number.clone()));
        forward(&http, self.moto).expect("moto answers")
    }

    /// Asks EC2 by its Query API.
    ///
    /// # Errors
    /// It refuses.
    pub(super) fn ask(&self, parameters: &[(&str, &str)]) -> io::Result<String> {
        let reply = self.forward(&Self::request(parameters));
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if reply.status == 200 {
            return Ok(text);
        }
        Err(io::Error::other(format!("moto refuses {parameters:?}: {text}")))
    }

    /// A request of EC2's Query API.
    pub(super) fn request(parameters: &[(&str, &str)]) -> HttpRequest {
        let body = form_urlencoded::Serializer::new(String::from("Version=2016-11-15"))
            .extend_pairs(parameters)
            .finish();
        let form = (
            "content-type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        );
        HttpRequest {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            headers: vec![authorization("ec2"), form],
            body: body.into_bytes(),
            peer: None,
        }
    }

    /// Asks the EBS direct API.
    ///
    /// # Errors
    /// It refuses.
    pub(super) fn ask_ebs(&self, path: &str) -> io::Result<Vec<u8>> {
        let reply = self.forward(&HttpRequest {
            method: "GET".to_owned(),
            target: path.to_owned(),
            headers: vec![authorization("ebs")],
            body: Vec::new(),
            peer: None,
        });
        if reply.status == 200 {
            return Ok(reply.body);
        }
        Err(io::Error::other(format!(
            "moto answers {} to {path}",
            reply.status
        )))
    }
}

/// Names service and region; moto checks no signature.
fn authorization(service: &str) -> (String, String) {
    let scope = format!("Credential=AKIDTEST/20260101/{REGION}/{service}/aws4_request");
    (
        "authorization".to_owned(),
        format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none"),
    )
}
