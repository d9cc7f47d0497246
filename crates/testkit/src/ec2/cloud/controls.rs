//! What this EC2 is told by paths that EC2 does not have:
//!
//! - `GET /account` tells what there is.
//! - `POST /faults` with a list of rules in JSON ([`super::super::faults`]) lets requests about instances go wrong, in the place of
//!   the rules before; `GET /faults` tells them, with how often each has held.
//! - `POST /interruptions` with `{"instance": "i-…", "seconds": 120}` announces that a spot instance is taken back, and ends it after
//!   that time; without one after EC2's two minutes. Said again, the shorter time counts.

use std::{sync::Arc, thread, time::Duration};

use serde::Deserialize;

use super::Cloud;
use crate::http::{HttpAnswer, HttpRequest};

const ACCOUNT_PATH: &str = "/account";
const FAULTS_PATH: &str = "/faults";
const INTERRUPTIONS_PATH: &str = "/interruptions";

/// A spot instance that is to be taken back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interruption {
    instance: String,
    /// From the announcement to the end.
    #[serde(default = "notice_seconds")]
    seconds: u64,
}

/// What EC2 gives.
fn notice_seconds() -> u64 {
    120
}

impl Cloud {
    /// What is answered to a request that no client of EC2 makes; none to others.
    pub(super) fn control(self: &Arc<Self>, http: &HttpRequest) -> Option<HttpAnswer> {
        let answer = match (http.method.as_str(), http.target.as_str()) {
            ("GET", ACCOUNT_PATH) => match self.account() {
                Ok(account) => HttpAnswer::new(200, format!("{account:#}\n")),
                Err(error) => HttpAnswer::new(500, error.to_string()),
            },
            ("GET", FAULTS_PATH) => HttpAnswer::new(200, self.faults.told()),
            ("POST", FAULTS_PATH) => match self.faults.replace(&http.body) {
                Ok(()) => HttpAnswer::new(200, self.faults.told()),
                Err(error) => HttpAnswer::new(400, format!("no list of faults: {error}\n")),
            },
            ("POST", INTERRUPTIONS_PATH) => self.interrupt(&http.body),
            _ => return None,
        };
        Some(answer)
    }

    fn interrupt(self: &Arc<Self>, body: &[u8]) -> HttpAnswer {
        let Interruption { instance, seconds } = match serde_json::from_slice(body) {
            Ok(interruption) => interruption,
            Err(error) => return HttpAnswer::new(400, format!("no interruption: {error}\n")),
        };
        if !self.emulator.is_spot(&instance) {
            return HttpAnswer::new(404, format!("{instance} is no spot instance\n"));
        }
        self.emulator.interrupt(&instance);
        let cloud = self.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            cloud.end(&instance);
        });
        HttpAnswer::new(200, "")
    }
}
