//! The cloud-config document around the payload's files.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{BootPayload, PARSED_LIMIT, PayloadError, RENDERED_LIMIT, UserData, WarmPayload};

/// The forwarder's configuration.
const FORWARDER_FILE: &str = "/run/peerpod/apf.json";
/// The same, as older adaptors name it.
const FORWARDER_FILE_OLD: &str = "/run/peerpod/daemon.json";
/// Our guest's own settings.
const SETTINGS_FILE: &str = "/run/peerpod/peerpods.json";
/// What a VM without a pod has in place of all of these.
const WARM_FILE: &str = "/run/peerpod/warm.json";

/// The part of a cloud-config document that peer pods use.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    write_files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    #[serde(default)]
    content: Zeroizing<String>,
    #[serde(default)]
    encoding: Option<String>,
}

pub(super) fn render(payload: &BootPayload) -> Result<Zeroizing<String>, PayloadError> {
    let mut text = begin();
    write_file(&mut text, FORWARDER_FILE, &payload.forwarder)?;
    if let Some(settings) = &payload.settings {
        write_file(&mut text, SETTINGS_FILE, settings)?;
    }
    end(text)
}

pub(super) fn render_warm(payload: &WarmPayload) -> Result<Zeroizing<String>, PayloadError> {
    let mut text = begin();
    write_file(&mut text, WARM_FILE, payload)?;
    end(text)
}

fn begin() -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(RENDERED_LIMIT));
    text.push_str("#cloud-config\nwrite_files:\n");
    text
}

fn end(text: Zeroizing<String>) -> Result<Zeroizing<String>, PayloadError> {
    if text.len() > RENDERED_LIMIT {
        Err(PayloadError::TooLarge(text.len()))
    } else {
        Ok(text)
    }
}

/// Adds one file as a literal block: JSON in one line needs no further quoting there.
fn write_file<T: serde::Serialize>(
    text: &mut String,
    path: &'static str,
    value: &T,
) -> Result<(), PayloadError> {
    let json = Zeroizing::new(
        serde_json::to_string(value).map_err(|source| PayloadError::Content { path, source })?,
    );
    for part in ["- path: ", path, "\n  content: |\n    ", json.as_str(), "\n"] {
        text.push_str(part);
    }
    Ok(())
}

pub(super) fn parse(user_data: &[u8]) -> Result<UserData, PayloadError> {
    let document = read(user_data)?;
    match read_file(&document, WARM_FILE)? {
        Some(warm) => Ok(UserData::Warm(warm)),
        None => pod(&document).map(Box::new).map(UserData::Pod),
    }
}

pub(super) fn parse_pod(user_data: &[u8]) -> Result<BootPayload, PayloadError> {
    pod(&read(user_data)?)
}

fn read(user_data: &[u8]) -> Result<Document, PayloadError> {
    if user_data.len() > PARSED_LIMIT {
        return Err(PayloadError::TooLong(user_data.len()));
    }
    let text = std::str::from_utf8(user_data).map_err(|_| PayloadError::NotText)?;
    // The parser's own words quote the document, secrets included.
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location();
        PayloadError::NotCloudConfig {
            line: place.map_or(0, |place| place.line()),
            column: place.map_or(0, |place| place.column()),
        }
    })
}

fn pod(document: &Document) -> Result<BootPayload, PayloadError> {
    let forwarder = match read_file(document, FORWARDER_FILE)? {
        Some(forwarder) => forwarder,
        None => read_file(document, FORWARDER_FILE_OLD)?.ok_or(PayloadError::Missing(FORWARDER_FILE))?,
    };
    Ok(BootPayload {
        forwarder,
        settings: read_file(document, SETTINGS_FILE)?,
    })
}

fn read_file<T: DeserializeOwned>(
    document: &Document,
    path: &'static str,
) -> Result<Option<T>, PayloadError> {
    let Some(file) = document.write_files.iter().find(|file| file.path == path) else {
        return Ok(None);
    };
    let decoded;
    let content = match file.encoding.as_deref() {
        None | Some("" | "text/plain") => file.content.as_bytes(),
        Some("b64" | "base64") => {
            let bytes = STANDARD.decode(file.content.trim());
            decoded = Zeroizing::new(bytes.map_err(|error| PayloadError::Encoding {
                path,
                cause: error.to_string(),
            })?);
            &decoded
        }
        Some(encoding) => {
            return Err(PayloadError::Encoding {
                path,
                cause: format!("encoding {encoding:?} is not supported"),
            });
        }
    };
    serde_json::from_slice(content)
        .map(Some)
        .map_err(|source| PayloadError::Content { path, source })
}
