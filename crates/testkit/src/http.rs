//! A small HTTP server, on loopback as a rule, that a test writes the answers of, and a client to match.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// A client or server that says nothing for this long is stuck.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// For example `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Who sent it; none where this process made it.
    pub peer: Option<SocketAddr>,
}

impl HttpRequest {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub enum HttpAnswer {
    /// It answers.
    Reply(HttpReply),
    /// It closes the connection without a word, as when a network fails.
    HangUp,
}

impl HttpAnswer {
    /// An answer with a status and a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Reply(HttpReply {
            status,
            headers: Vec::new(),
            body: body.into(),
        })
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// Headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A server, until the test's process ends.
#[derive(Clone, Copy, Debug)]
pub struct HttpServer {
    address: SocketAddr,
}

impl HttpServer {
    /// Listens on loopback, and lets `answer` say what becomes of each request; requests are served side by side.
    pub fn start(answer: impl Fn(&HttpRequest) -> HttpAnswer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        Self::on(listener, answer).expect("a listener has an address")
    }

    /// The same on a listener of the caller's.
    ///
    /// # Errors
    /// The listener is of no use.
    pub fn on(
        listener: TcpListener,
        answer: impl Fn(&HttpRequest) -> HttpAnswer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                // A client that goes away in the midst of its request is none of the server's business.
                thread::spawn(move || serve(stream, &*answer).unwrap_or_default());
            }
        });
        Ok(Self { address })
    }

    /// Its address for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Sends a request on to another server.
///
/// # Errors
/// The server is not there, or does not speak HTTP.
pub fn forward(request: &HttpRequest, server: SocketAddr) -> io::Result<HttpReply> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    // Version 1.0: the body ends with the connection, and has no framing of its own.
    let mut head = format!("{} {} HTTP/1.0\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        if !["connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head += &format!("content-length: {}\r\n\r\n", request.body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&request.body)?;
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no answer of HTTP: {first:?}")))?;
    let headers = headers(&mut reader)?;
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok(HttpReply {
        status,
        headers,
        body,
    })
}

fn serve(stream: TcpStream, answer: &dyn Fn(&HttpRequest) -> HttpAnswer) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let first = line(&mut reader)?;
    if first.is_empty() {
        // A client that connected and went away.
        return Ok(());
    }
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = headers(&mut reader)?;
    let length = find(&headers, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let request = HttpRequest {
        method,
        target,
        headers,
        body,
        peer: stream.peer_addr().ok(),
    };
    match answer(&request) {
        HttpAnswer::Reply(reply) => write_reply(stream, &reply),
        HttpAnswer::HangUp => Ok(()),
    }
}

fn write_reply(mut stream: TcpStream, reply: &HttpReply) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Answer\r\n", reply.status);
    for (name, value) in &reply.headers {
        if !["connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head += &format!(
        "connection: close\r\ncontent-length: {}\r\n\r\n",
        reply.body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&reply.body)
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}
