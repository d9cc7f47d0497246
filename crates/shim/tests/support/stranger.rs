//! A machine whose guest is not what it should be: behind the real mutual TLS, it answers as a script says.

use std::sync::Arc;

use peerpods_tunnel::channel::AgentStream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, WriteHalf, split},
    sync::Mutex,
};
use ttrpc::{
    Code, get_status,
    proto::{Codec, MESSAGE_TYPE_DATA, MESSAGE_TYPE_RESPONSE, MessageHeader, Request, Response},
};

use super::Node;

/// How a request is answered.
pub(crate) enum Answer {
    /// With nothing in it, which for most requests is what an agent answers.
    Empty,
    /// Never.
    Silence,
    /// With this payload.
    Payload(Vec<u8>),
    /// With an error of these words.
    Error(String),
    /// As an agent that does not know the request.
    Unknown,
    /// With these bytes on the wire, whatever they are.
    Bytes(Vec<u8>),
    /// With these bytes, and the end of the connection.
    Last(Vec<u8>),
}

/// Answers to a method of a stream.
pub(crate) type Script = Arc<dyn Fn(&str, &Request, u32) -> Answer + Send + Sync>;

/// What every agent leaves unanswered as long as nothing happens.
pub(crate) fn is_waiting(method: &str) -> bool {
    matches!(
        method,
        "WaitProcess" | "GetOOMEvent" | "ReadStdout" | "ReadStderr"
    )
}

/// A script of one method; the others are answered as an agent would, to which nothing happens.
pub(crate) fn only(
    method: &'static str,
    answer: impl Fn(&Request, u32) -> Answer + Send + Sync + 'static,
) -> Script {
    Arc::new(move |asked, request, stream| match asked {
        asked if asked == method => answer(request, stream),
        asked if is_waiting(asked) => Answer::Silence,
        _ => Answer::Empty,
    })
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, stream, u32::try_from(payload.len()).unwrap());
    bytes.extend_from_slice(payload);
    bytes
}

/// The bytes of a header alone.
pub(crate) fn header(kind: u8, stream: u32, length: u32) -> Vec<u8> {
    let mut header = match kind {
        MESSAGE_TYPE_DATA => MessageHeader::new_data(stream, length),
        _ => MessageHeader::new_response(stream, length),
    };
    header.type_ = kind;
    header.into()
}

fn response(stream: u32, response: &Response) -> Vec<u8> {
    frame(MESSAGE_TYPE_RESPONSE, stream, &response.encode().unwrap())
}

/// The frame of an answer with this payload.
pub(crate) fn answered(stream: u32, payload: Vec<u8>) -> Vec<u8> {
    let answer = Response {
        payload,
        ..Default::default()
    };
    response(stream, &answer)
}

fn refused(stream: u32, code: Code, words: &str) -> Vec<u8> {
    let error = Response {
        status: Some(get_status(code, words)).into(),
        ..Default::default()
    };
    response(stream, &error)
}

impl Node {
    /// Has the shim dial a machine that answers by the script.
    pub(crate) async fn let_dial_stranger(&self, script: Script) {
        let (mut listener, forwards) = self.listen().await;
        tokio::spawn(async move {
            let _forwards = forwards;
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone()));
            }
        });
    }

    /// The most memory that the pod's shim ever had, in bytes.
    pub(crate) fn shims_peak(&self) -> u64 {
        let pid = std::fs::read_to_string(self.path("bundles/sandbox/shim.pid")).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes << 10
    }
}

async fn serve(stream: AgentStream, script: Script) -> std::io::Result<()> {
    let (mut reader, writer) = split(stream);
    let writer = Arc::new(Mutex::new(writer));
    loop {
        let header = MessageHeader::read_from(&mut reader).await?;
        let mut payload = vec![0; header.length as usize];
        reader.read_exact(&mut payload).await?;
        let request = Request::decode(&payload).unwrap();
        let stream = header.stream_id;
        let bytes = match script(&request.method, &request, stream) {
            Answer::Silence => continue,
            Answer::Empty => answered(stream, Vec::new()),
            Answer::Payload(payload) => answered(stream, payload),
            Answer::Error(words) => refused(stream, Code::INTERNAL, &words),
            Answer::Unknown => refused(stream, Code::UNIMPLEMENTED, "no such request"),
            Answer::Bytes(bytes) => bytes,
            Answer::Last(bytes) => {
                let mut writer = writer.lock().await;
                writer.write_all(&bytes).await?;
                return writer.shutdown().await;
            }
        };
        // Whoever floods goes on to listen.
        tokio::spawn(write(writer.clone(), bytes));
    }
}

async fn write(writer: Arc<Mutex<WriteHalf<AgentStream>>>, bytes: Vec<u8>) -> std::io::Result<()> {
    let mut writer = writer.lock().await;
    writer.write_all(&bytes).await?;
    writer.flush().await
}
