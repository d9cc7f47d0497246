//! The claim: a warm guest is given to its pod.
//!
//! ```text
//! worker -> guest   the length of the payload (4 bytes, the highest first), the payload
//! guest -> worker   1: the pod is served from now on, at the same address, by the payload's own credentials
//!                   2, and a reason (text, to the end of the stream): the guest is of no use, and ends
//! ```

use std::{io, time::Duration};

use peerpods_proto::payload::RENDERED_LIMIT;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use zeroize::Zeroizing;

use super::{AgentStream, CLAIM_PROTOCOL, ChannelError, Connection, client::dial_pinned};

/// The longest for a guest to become its pod's: the pod's network and a new key, in an emulated VM on a busy machine.
const CLAIM_LIMIT: Duration = Duration::from_secs(15);
/// The longest for an answer that nobody may be waiting for any more.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The most bytes of a reason; further ones are cut.
const REASON_LIMIT: u64 = 2048;
const TAKEN: u8 = 1;
const REFUSED: u8 = 2;

/// Gives a warm guest its pod's boot payload; one attempt. `connection` is by the credentials of the warm guest, which are
/// of no use after a success.
///
/// # Errors
/// [`ChannelError::ClaimRefused`], or as for [`super::connect`]. Whether the guest took the claim is not known then where no
/// answer came: who can [`super::join`] by the payload's credentials knows that it did.
pub async fn claim(connection: &Connection, payload: &[u8]) -> Result<(), ChannelError> {
    let address = connection.address;
    let mut stream = dial_pinned(connection, CLAIM_PROTOCOL).await?;
    let exchange = async {
        write_payload(&mut stream, payload).await?;
        read_answer(&mut stream).await
    };
    match timeout(CLAIM_LIMIT, exchange).await {
        Err(_) => Err(ChannelError::Timeout {
            address,
            action: "answer the claim",
            limit: CLAIM_LIMIT,
        }),
        Ok(Err(source)) => Err(ChannelError::Connect { address, source }),
        Ok(Ok(Answer::Taken)) => Ok(()),
        Ok(Ok(Answer::Refused(reason))) => Err(ChannelError::ClaimRefused { address, reason }),
    }
}

/// A guest's answer to a claim.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Taken,
    Refused(String),
}

/// A claim that a guest received, and has to answer.
pub struct Claim {
    payload: Zeroizing<Vec<u8>>,
    stream: AgentStream,
}

impl Claim {
    pub(super) async fn read(mut stream: AgentStream) -> io::Result<Self> {
        let payload = read_payload(&mut stream).await?;
        Ok(Self { payload, stream })
    }

    /// The pod's boot payload, as a VM of its own would have been given it.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Tells the worker that the pod is served, or why it is not. A worker that is gone is none of the guest's concern.
    pub async fn answer(mut self, outcome: Result<(), &str>) {
        let message = match outcome {
            Ok(()) => vec![TAKEN],
            Err(reason) => [&[REFUSED], reason.as_bytes()].concat(),
        };
        let answer = async {
            self.stream.write_all(&message).await?;
            self.stream.shutdown().await
        };
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the claim's answer is not heard"),
            Err(_) => tracing::debug!("the claim's answer is not heard in time"),
        }
    }
}

async fn write_payload(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_u32(length).await?;
    stream.write_all(payload).await?;
    stream.flush().await
}

async fn read_payload(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > RENDERED_LIMIT {
        return Err(io::Error::other("the payload is too long"));
    }
    let mut payload = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    match stream.read_u8().await? {
        TAKEN => Ok(Answer::Taken),
        REFUSED => {
            let mut reason = Vec::new();
            stream.take(REASON_LIMIT).read_to_end(&mut reason).await?;
            Ok(Answer::Refused(String::from_utf8_lossy(&reason).into_owned()))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime can be made").block_on(work)
    }

    proptest! {
        #[test]
        fn a_payload_arrives_as_it_was_sent(payload in prop::collection::vec(any::<u8>(), 0..RENDERED_LIMIT)) {
            let arrived = run(async {
                let mut wire = Vec::new();
                write_payload(&mut wire, &payload).await.unwrap();
                read_payload(&mut wire.as_slice()).await.unwrap()
            });
            prop_assert_eq!(&*arrived, &payload);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            run(async {
                if let Ok(payload) = read_payload(&mut bytes.as_slice()).await {
                    assert!(payload.len() <= RENDERED_LIMIT);
                }
                if let Ok(Answer::Refused(reason)) = read_answer(&mut bytes.as_slice()).await {
                    // A byte that is no text becomes a character of three bytes.
                    assert!(reason.len() <= 3 * 2048);
                }
            });
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
        let length = u32::try_from(RENDERED_LIMIT + 1).unwrap().to_be_bytes();
        let refused = run(read_payload(&mut length.as_slice())).unwrap_err();
        assert_eq!(refused.to_string(), "the payload is too long");
    }
}
