//! From an instance that exists to an agent that proved itself.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use peerpods_error::{chain, shorten};
use peerpods_proto::payload::JoinSecret;
use peerpods_provider::{Instance, InstanceStatus, Provider};
use peerpods_tunnel::channel::{ClientIdentity, ServerKeyPin, join};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::{Instant, sleep};

use crate::sandbox::Reason;

/// Between two knocks at a VM that boots: short, because a knock costs little and the pod is waiting.
const KNOCK_INTERVAL: Duration = Duration::from_millis(50);
/// Between two questions to the provider whether a VM that does not answer still lives.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a VM that serves is asked after, for a provider that does not tell of an end by itself; the shim's own
/// connection tells, too.
const WATCH_INTERVAL: Duration = Duration::from_secs(15);
/// How many lines of the console a message quotes.
const CONSOLE_LINES: usize = 5;
/// The longest that a VM's own words may be: an event of Kubernetes has room for this many.
const CAUSE_CHARACTERS: usize = 1024;

/// A secret for one guest; none where the machine has no randomness.
pub(crate) fn new_join_secret() -> Option<JoinSecret> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).ok()?;
    Some(JoinSecret::new(secret))
}

/// The agent's address of an instance.
pub(crate) fn address(instance: &Instance, port: u16) -> SocketAddr {
    let first = instance.addresses.first().copied();
    SocketAddr::new(first.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port)
}

/// By what worker and guest know each other when they meet.
pub(crate) struct Credentials<'a> {
    pub(crate) identity: &'a ClientIdentity,
    pub(crate) join_secret: &'a JoinSecret,
}

/// Knocks until the agent proves the join secret, the instance ends, or the time to boot is up.
pub(crate) async fn await_join(
    provider: &dyn Provider,
    instance: &Instance,
    port: u16,
    credentials: Credentials<'_>,
    limit: Duration,
) -> Result<ServerKeyPin, Reason> {
    let address = address(instance, port);
    let deadline = Instant::now() + limit;
    let watch = async {
        loop {
            sleep(LOOK_INTERVAL).await;
            if let Some(Reason::Ended(cause)) = death(provider, instance).await {
                return Reason::NotBooted(cause);
            }
        }
    };
    let knock = async {
        loop {
            let error = match join(address, credentials.identity, credentials.join_secret).await {
                Ok(server_key) => return Ok(server_key),
                Err(error) => error,
            };
            if !error.retryable() {
                return Err(Reason::NotBooted(chain(&error)));
            }
            if Instant::now() >= deadline {
                let console = console(provider, instance).await;
                return Err(Reason::NotBooted(format!(
                    "no answer within {limit:?}: {}{console}",
                    chain(&error)
                )));
            }
            sleep(KNOCK_INTERVAL).await;
        }
    };
    tokio::select! {
        joined = knock => joined,
        reason = watch => Err(reason),
    }
}

/// Why the instance does not live any more, where it does not. A provider that cannot tell is asked again later.
async fn death(provider: &dyn Provider, instance: &Instance) -> Option<Reason> {
    match provider.describe(&instance.id).await {
        Ok(InstanceStatus::Alive) => None,
        // A local provider quotes the console, on which the guest writes what it likes.
        Ok(InstanceStatus::Gone(cause)) => Some(Reason::Ended(shorten(&cause, CAUSE_CHARACTERS))),
        Err(error) => {
            tracing::debug!(instance = %instance.id, error = chain(&error), "the provider cannot tell");
            None
        }
    }
}

/// Waits until the instance does not live any more, and tells why.
pub(crate) async fn await_death(provider: &dyn Provider, instance: &Instance) -> Reason {
    let looking = async {
        loop {
            if let Some(reason) = death(provider, instance).await {
                return reason;
            }
            sleep(WATCH_INTERVAL).await;
        }
    };
    let told = async {
        provider.ended(&instance.id).await;
        match death(provider, instance).await {
            Some(reason) => reason,
            // It was a mistake: the looks go on.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        reason = looking => reason,
        reason = told => reason,
    }
}

/// The last lines of the instance's console, as the end of a sentence.
async fn console(provider: &dyn Provider, instance: &Instance) -> String {
    let Some(tail) = provider.console_tail(&instance.id).await else {
        return String::new();
    };
    let lines: Vec<&str> = tail.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(CONSOLE_LINES)..];
    let last = shorten(&last.join(" | "), CAUSE_CHARACTERS);
    format!("; its console ends with: {last}")
}

#[cfg(test)]
mod tests {
    use peerpods_provider::{conformance::request, fake::FakeProvider};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What is told of a VM that answers a connection to the agent's port with these bytes, and then says no more.
    async fn meet(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let provider = FakeProvider::new();
        let mut instance = provider.launch(&request("strange", "node-a")).await.unwrap();
        instance.addresses = vec![address.ip()];
        let serving = tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                connection.write_all(answer).await.unwrap();
                // Held, so that its end is not what tells.
                tokio::spawn(async move { connection.read_to_end(&mut Vec::new()).await });
            }
        });
        let credentials = Credentials {
            identity: &ClientIdentity::issue("sandbox").unwrap(),
            join_secret: &new_join_secret().unwrap(),
        };
        let limit = Duration::from_millis(100);
        let joined = await_join(&provider, &instance, address.port(), credentials, limit).await;
        serving.abort();
        let reason = joined.unwrap_err();
        assert!(matches!(reason, Reason::NotBooted(_)), "{reason:?}");
        reason.to_string()
    }

    #[tokio::test]
    async fn what_a_vm_writes_on_its_console_is_told_short_and_plain() {
        let provider = FakeProvider::new();
        let instance = provider.launch(&request("loud", "node-a")).await.unwrap();
        provider.write_console(&instance.id, &"\u{1b}[2J\u{7}boo ".repeat(10_000));
        let told = console(&provider, &instance).await;
        assert!(
            told.len() < 2 * CAUSE_CHARACTERS && told.contains("[2Jboo"),
            "{}",
            told.len()
        );
        assert!(!told.contains(char::is_control), "{told:?}");
    }

    #[tokio::test]
    async fn a_vm_that_answers_with_nonsense_or_with_silence_is_not_taken_for_booted() {
        let (garbage, alert, silence) = tokio::join!(
            meet(b"HTTP/1.1 200 OK\r\n\r\nhello"),
            // TLS's own way to refuse: a fatal alert, "internal error".
            meet(b"\x15\x03\x03\x00\x02\x02\x50"),
            meet(b""),
        );
        for refused in [garbage, alert] {
            assert!(refused.contains("127.0.0.1:"), "{refused}");
        }
        assert!(silence.contains("no answer within"), "{silence}");
    }
}
