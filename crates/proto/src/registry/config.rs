//! The formats in which docker and all that followed it keep credentials.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::DecodePaddingMode, engine::GeneralPurpose, engine::GeneralPurposeConfig};
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

use super::{Repository, Secret, location::Location};
use crate::payload::SecretText;

/// No Secret of Kubernetes is larger.
pub const CONFIG_LIMIT: usize = 1 << 20;

/// Both spellings of `auth` are in use, with and without the padding at its end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A docker configuration: for each registry a way to prove who asks.
#[derive(Debug, Default)]
pub struct DockerConfig {
    pub(super) entries: Vec<(Location, Secret)>,
    pub(super) unusable: Vec<(Location, UnusableEntry)>,
}

/// A document that is no docker configuration. No part of it is quoted: it is secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It has more bytes than [`CONFIG_LIMIT`].
    #[error("it is larger than {CONFIG_LIMIT} bytes")]
    TooLarge,
    /// It is not JSON, or its parts have not the types that they should.
    #[error("it is no docker configuration: {problem} at line {line}, column {column}")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
        /// Where, counted from 1.
        line: usize,
        /// Where in the line.
        column: usize,
    },
}

/// Why an entry of a configuration is of no use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnusableEntry {
    /// It names neither a user nor a token: a program on another machine keeps them.
    Empty,
    /// Its `auth` is no base64 of `user:password`.
    MalformedAuth,
    /// It has a token with which tokens are asked for.
    IdentityToken,
}

impl fmt::Display for UnusableEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "has no user and password in it (a credential helper's entry?)",
            Self::MalformedAuth => "has an \"auth\" that is no base64 of user:password",
            Self::IdentityToken => "has only an identity token, which is not supported",
        })
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<SecretText>,
    auth: Option<SecretText>,
    registrytoken: Option<SecretText>,
    identitytoken: Option<IgnoredAny>,
}

impl DockerConfig {
    /// Reads a `config.json`, which is what a Secret of type `kubernetes.io/dockerconfigjson` and an `auth.json` hold.
    ///
    /// # Errors
    /// Where the document as a whole cannot be read; an entry that cannot be used is kept as such.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let document: Document = read(json)?;
        Ok(Self::from_entries(document.auths.unwrap_or_default()))
    }

    /// Reads the older `.dockercfg`, which is the inner part of it alone.
    ///
    /// # Errors
    /// As [`DockerConfig::parse`].
    pub fn parse_legacy(json: &[u8]) -> Result<Self, ConfigError> {
        read(json).map(Self::from_entries)
    }

    /// Whether something in it is for the repository, be it of use or not.
    pub fn has_any_for(&self, repository: &Repository) -> bool {
        let (entries, unusable) = (&self.entries, &self.unusable);
        let mut locations = entries
            .iter()
            .map(|(location, _)| location)
            .chain(unusable.iter().map(|(location, _)| location));
        locations.any(|location| location.serves(repository))
    }

    fn from_entries(entries: BTreeMap<String, Entry>) -> Self {
        let mut config = Self::default();
        for (key, entry) in entries {
            let location = Location::parse(&key);
            match entry.secret() {
                Ok(secret) => config.entries.push((location, secret)),
                Err(problem) => config.unusable.push((location, problem)),
            }
        }
        config
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ConfigError> {
    if json.len() > CONFIG_LIMIT {
        return Err(ConfigError::TooLarge);
    }
    serde_json::from_slice(json).map_err(|error| ConfigError::Malformed {
        // The error's own words may quote a password that is at the wrong place.
        problem: match error.classify() {
            serde_json::error::Category::Data => "a value of another type",
            serde_json::error::Category::Eof => "its end is missing",
            serde_json::error::Category::Io | serde_json::error::Category::Syntax => "not JSON",
        },
        line: error.line(),
        column: error.column(),
    })
}

impl Entry {
    fn secret(self) -> Result<Secret, UnusableEntry> {
        let filled = |text: Option<SecretText>| text.filter(|text| !text.expose().trim().is_empty());
        // What `auth` says wins, as it does for the kubelet.
        if let Some(auth) = filled(self.auth) {
            return decode(auth.expose()).ok_or(UnusableEntry::MalformedAuth);
        }
        if let Some(token) = filled(self.registrytoken) {
            return Ok(Secret::Token(token));
        }
        match (self.username.filter(|name| !name.is_empty()), self.password) {
            (Some(username), Some(password)) => Ok(Secret::Basic { username, password }),
            _ if self.identitytoken.is_some() => Err(UnusableEntry::IdentityToken),
            _ => Err(UnusableEntry::Empty),
        }
    }
}

/// Reads base64 of `user:password`.
fn decode(auth: &str) -> Option<Secret> {
    let bytes = Zeroizing::new(BASE64.decode(auth.trim()).ok()?);
    let (username, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some(Secret::Basic {
        username: username.to_owned(),
        password: SecretText::new(password.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(entry: &str) -> Result<Secret, UnusableEntry> {
        let config =
            DockerConfig::parse(format!(r#"{{"auths": {{"example.com": {entry}}}}}"#).as_bytes()).unwrap();
        match (
            config.entries.into_iter().next(),
            config.unusable.into_iter().next(),
        ) {
            (Some((_, secret)), None) => Ok(secret),
            (None, Some((_, problem))) => Err(problem),
            (entry, problem) => panic!("{entry:?} and {problem:?}"),
        }
    }

    fn basic(username: &str, password: &str) -> Result<Secret, UnusableEntry> {
        Ok(Secret::Basic {
            username: username.to_owned(),
            password: SecretText::new(password.to_owned()),
        })
    }

    #[test]
    fn every_way_to_write_an_entry_is_read() {
        // user:pass, user:p:ss and user:
        assert_eq!(only(r#"{"auth": "dXNlcjpwYXNz"}"#), basic("user", "pass"));
        assert_eq!(only(r#"{"auth": "dXNlcjpwOnNz\n"}"#), basic("user", "p:ss"));
        assert_eq!(only(r#"{"auth": "dXNlcjo="}"#), basic("user", ""));
        assert_eq!(only(r#"{"auth": "dXNlcjo"}"#), basic("user", ""));
        assert_eq!(
            only(r#"{"username": "u", "password": "p", "email": "u@example.com"}"#),
            basic("u", "p")
        );
        assert_eq!(
            only(r#"{"username": "u", "password": "p", "auth": "dXNlcjpwYXNz"}"#),
            basic("user", "pass")
        );
        assert_eq!(
            only(r#"{"registrytoken": "t"}"#),
            Ok(Secret::Token(SecretText::new("t".to_owned())))
        );
    }

    #[test]
    fn an_entry_that_is_of_no_use_says_why() {
        assert_eq!(only("{}"), Err(UnusableEntry::Empty));
        assert_eq!(only(r#"{"username": "u"}"#), Err(UnusableEntry::Empty));
        assert_eq!(
            only(r#"{"identitytoken": "t"}"#),
            Err(UnusableEntry::IdentityToken)
        );
        for auth in ["no base64!", "bm9jb2xvbg==", "/w=="] {
            assert_eq!(
                only(&format!(r#"{{"auth": "{auth}"}}"#)),
                Err(UnusableEntry::MalformedAuth),
                "{auth}"
            );
        }
    }

    #[test]
    fn the_older_format_is_the_inner_part() {
        let config = DockerConfig::parse_legacy(br#"{"example.com": {"auth": "dXNlcjpwYXNz"}}"#).unwrap();
        assert_eq!(config.entries.len(), 1);
        assert!(DockerConfig::parse(b"{}").unwrap().entries.is_empty());
        assert!(
            DockerConfig::parse(br#"{"auths": null, "credsStore": "x"}"#)
                .unwrap()
                .entries
                .is_empty()
        );
    }

    #[test]
    fn an_error_quotes_nothing() {
        for document in [
            r#"{"auths": "hunter2"}"#,
            r#"{"auths": {"example.com": "hunter2"}}"#,
            r#"{"auths": {"example.com": {"password": ["hunter2"]}}}"#,
            r#"{"auths": {"example.com": {"password": "hunter2"#,
            "hunter2",
        ] {
            let error = DockerConfig::parse(document.as_bytes()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
            assert!(error.to_string().contains("line 1"), "{error}");
        }
        assert_eq!(
            DockerConfig::parse(&vec![b' '; CONFIG_LIMIT + 1]).unwrap_err(),
            ConfigError::TooLarge
        );
    }

    #[test]
    fn nothing_shows_a_secret() {
        let config = DockerConfig::parse(br#"{"auths": {"example.com": {"auth": "dXNlcjpwYXNz"}}}"#).unwrap();
        assert!(!format!("{config:?}").contains("pass"), "{config:?}");
    }
}
