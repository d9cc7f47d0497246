//! Where credentials are kept: Secrets of two types, and a file of the node.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use peerpods_proto::registry::{CONFIG_LIMIT, ConfigError, DockerConfig};
use zeroize::Zeroizing;

use crate::kubernetes::Secret;

const CURRENT_TYPE: &str = "kubernetes.io/dockerconfigjson";
const CURRENT_KEY: &str = ".dockerconfigjson";
const LEGACY_TYPE: &str = "kubernetes.io/dockercfg";
const LEGACY_KEY: &str = ".dockercfg";

/// Why a source holds no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("its type is {0:?}, not {CURRENT_TYPE}")]
    WrongType(String),
    #[error("it has no {0}")]
    MissingKey(&'static str),
    #[error("its {0} is no base64")]
    NoBase64(&'static str),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{} cannot be read: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {error}", path.display())]
    FileConfig { path: PathBuf, error: ConfigError },
}

/// Reads a Secret of either type.
pub(super) fn docker_config(secret: &Secret) -> Result<DockerConfig, SourceError> {
    let (key, parse): (_, fn(&[u8]) -> _) = match secret.kind.as_str() {
        CURRENT_TYPE => (CURRENT_KEY, DockerConfig::parse),
        LEGACY_TYPE => (LEGACY_KEY, DockerConfig::parse_legacy),
        other => return Err(SourceError::WrongType(other.to_owned())),
    };
    let value = secret.data.get(key).ok_or(SourceError::MissingKey(key))?;
    let decoded = STANDARD
        .decode(value.expose())
        .map_err(|_| SourceError::NoBase64(key))?;
    Ok(parse(&Zeroizing::new(decoded))?)
}

/// Reads the node's file, where there is one.
pub(super) async fn auth_json(path: &Path) -> Result<Option<DockerConfig>, SourceError> {
    let owned = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || -> io::Result<_> {
        let mut bytes = Zeroizing::new(Vec::new());
        let limit = CONFIG_LIMIT as u64 + 1;
        std::fs::File::open(owned)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = match reading.await.expect("reading a file does not panic") {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(SourceError::File {
                path: path.to_owned(),
                source,
            });
        }
    };
    // An empty file is what a mounted Secret without the key leaves.
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let parsed = DockerConfig::parse(&bytes).map_err(|error| SourceError::FileConfig {
        path: path.to_owned(),
        error,
    })?;
    Ok(Some(parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(kind: &str, key: &str, value: &str) -> Secret {
        let data = serde_json::json!({"type": kind, "data": {key: value}});
        serde_json::from_value(data).unwrap()
    }

    #[test]
    fn both_types_are_read() {
        let inner = r#"{"example.com": {"auth": "dXNlcjpwYXNz"}}"#;
        let outer = format!(r#"{{"auths": {inner}}}"#);
        docker_config(&secret(CURRENT_TYPE, CURRENT_KEY, &STANDARD.encode(outer))).unwrap();
        docker_config(&secret(LEGACY_TYPE, LEGACY_KEY, &STANDARD.encode(inner))).unwrap();
    }

    #[test]
    fn what_is_no_pull_secret_says_why() {
        for (kind, key, value, words) in [
            ("Opaque", CURRENT_KEY, "e30=", "its type is \"Opaque\""),
            (CURRENT_TYPE, LEGACY_KEY, "e30=", "it has no .dockerconfigjson"),
            (CURRENT_TYPE, CURRENT_KEY, "?", "is no base64"),
            (
                CURRENT_TYPE,
                CURRENT_KEY,
                "aHVudGVyMg==",
                "no docker configuration",
            ),
        ] {
            let error = docker_config(&secret(kind, key, value)).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }
}
