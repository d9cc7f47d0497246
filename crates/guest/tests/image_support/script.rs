//! A registry of one image that sends an answer as a script says.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use peerpods_guest::image::Digest;

use super::Layer;

/// Between two bytes of what comes byte by byte: far below any limit on silence.
const DRIP: Duration = Duration::from_millis(50);

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once, and whole.
    Whole,
    /// Not a byte of it.
    Never,
    /// The status line, then nothing.
    BreaksOffInTheHead,
    /// Half of the body, then nothing.
    StallsInTheBody,
    /// Byte by byte, head and body.
    Drips,
    /// The head at once, the body byte by byte.
    DripsTheBody,
    /// A body without end.
    Endless,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Whether there is a registry, and what it wants to see.
    Ping,
    Manifest,
    Config,
    Layer,
}

struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    config_digest: Digest,
}

/// Serves an image of one layer, with one step at this pace.
pub(crate) fn registry(layer: &Layer, slow: Step, pace: Pace) -> SocketAddr {
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id.to_string()]},
    });
    let config = config.to_string().into_bytes();
    let config_digest = Digest::of(&config);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest.to_string(),
                   "size": config.len()},
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest().to_string(), "size": layer.packed.len()}],
    });
    let image = Arc::new(Image {
        manifest: manifest.to_string().into_bytes(),
        config,
        layer: layer.packed.clone(),
        config_digest,
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test program.
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, image) = (connection.unwrap(), image.clone());
            thread::spawn(move || serve(connection, &image, slow, pace));
        }
    });
    address
}

/// One request a connection. A client that has gone is no failure.
fn serve(mut connection: TcpStream, image: &Image, slow: Step, pace: Pace) {
    let mut request = Vec::new();
    let mut byte = [0; 1];
    while !request.ends_with(b"\r\n\r\n") {
        match connection.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            Ok(_) | Err(_) => return,
        }
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (step, body) = match path {
        path if path.contains("/manifests/") => (Step::Manifest, &image.manifest[..]),
        path if path.ends_with(&image.config_digest.to_string()) => (Step::Config, &image.config[..]),
        path if path.contains("/blobs/") => (Step::Layer, &image.layer[..]),
        _ => (Step::Ping, &b"{}"[..]),
    };
    let pace = if step == slow { pace } else { Pace::Whole };
    let _ = send(&mut connection, body, pace);
}

fn send(connection: &mut TcpStream, body: &[u8], pace: Pace) -> std::io::Result<()> {
    let length = match pace {
        Pace::Endless => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n{length}Connection: close\r\n\r\n"
    );
    match pace {
        Pace::Whole => {
            connection.write_all(head.as_bytes())?;
            connection.write_all(body)
        }
        Pace::Never => wait_for_end(connection),
        Pace::BreaksOffInTheHead => {
            connection.write_all(b"HTTP/1.1 200 OK\r\nX-")?;
            wait_for_end(connection)
        }
        Pace::StallsInTheBody => {
            connection.write_all(head.as_bytes())?;
            connection.write_all(&body[..body.len() / 2])?;
            wait_for_end(connection)
        }
        Pace::Drips => {
            drip(connection, head.as_bytes())?;
            drip(connection, body)
        }
        Pace::DripsTheBody => {
            connection.write_all(head.as_bytes())?;
            drip(connection, body)
        }
        Pace::Endless => {
            connection.write_all(head.as_bytes())?;
            loop {
                connection.write_all(&[b' '; 64 << 10])?;
            }
        }
    }
}

fn drip(connection: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        connection.write_all(&[*byte])?;
        thread::sleep(DRIP);
    }
    Ok(())
}

/// Holds the connection until the client gives it up.
fn wait_for_end(connection: &mut TcpStream) -> std::io::Result<()> {
    while connection.read(&mut [0; 64])? > 0 {}
    Ok(())
}
