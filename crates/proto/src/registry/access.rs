//! What one image pull may use, and its form on the wire.

use std::fmt;

use super::{InvalidImage, Repository};
use crate::{
    payload::SecretText,
    registry_wire::{self as wire, credential::Secret as WireSecret},
};

/// The most credentials that are tried for one image. Each is an attempt at the registry, which counts failed ones.
pub const CREDENTIALS_LIMIT: usize = 16;
/// The most remarks that a message about a failed pull carries; an event has room for as many sentences.
pub const REMARKS_LIMIT: usize = 8;
/// The most characters of one source or remark.
const WORDS_LIMIT: usize = 300;

/// How to prove to a registry who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A user's name and password, also good for fetching a token.
    Basic {
        /// The user's name.
        username: String,
        /// The user's password.
        password: SecretText,
    },
    /// A bearer token for the registry itself.
    Token(SecretText),
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(formatter, "Basic({username}, …)"),
            Self::Token(_) => formatter.write_str("Token(…)"),
        }
    }
}

/// A secret, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Where it comes from, as a person knows it: `Secret team/registry`.
    pub source: String,
    /// The secret itself.
    pub secret: Secret,
}

/// All that one image pull may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageAccess {
    /// What the credentials are for, and nothing else.
    pub repository: Repository,
    /// In the order in which they are tried, at most [`CREDENTIALS_LIMIT`].
    pub credentials: Vec<Credential>,
    /// What a person has to know if the registry refuses, at most [`REMARKS_LIMIT`].
    pub remarks: Vec<String>,
}

/// A message that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAccess {
    /// It names no repository.
    #[error("repository: {0}")]
    Repository(#[from] InvalidImage),
    /// It has more credentials than [`CREDENTIALS_LIMIT`].
    #[error("credentials: more than {CREDENTIALS_LIMIT}")]
    TooMany,
    /// A credential has neither a user nor a token.
    #[error("credentials: one from {0} has no secret")]
    NoSecret(String),
}

impl ImageAccess {
    /// The form on the wire, which holds the secrets in the open: send it and drop it. What is beyond the limits is left
    /// out, the least specific first.
    pub fn into_wire(self) -> wire::ImageAccess {
        let credentials = self.credentials.into_iter().take(CREDENTIALS_LIMIT);
        wire::ImageAccess {
            repository: self.repository.to_string(),
            credentials: credentials.map(Credential::into_wire).collect(),
            remarks: self
                .remarks
                .into_iter()
                .take(REMARKS_LIMIT)
                .map(|remark| shorten(&remark))
                .collect(),
            ..Default::default()
        }
    }

    /// Takes the secrets out of a message, so that they are wiped when the result is dropped.
    ///
    /// # Errors
    /// What is wrong, by its field.
    pub fn from_wire(message: wire::ImageAccess) -> Result<Self, InvalidAccess> {
        if message.credentials.len() > CREDENTIALS_LIMIT {
            return Err(InvalidAccess::TooMany);
        }
        Ok(Self {
            repository: Repository::of_image(&message.repository)?,
            credentials: message
                .credentials
                .into_iter()
                .map(Credential::from_wire)
                .collect::<Result<_, _>>()?,
            remarks: message
                .remarks
                .iter()
                .take(REMARKS_LIMIT)
                .map(|remark| shorten(remark))
                .collect(),
        })
    }
}

impl Credential {
    fn into_wire(self) -> wire::Credential {
        let secret = match self.secret {
            Secret::Basic { username, password } => WireSecret::Basic(wire::Basic {
                username,
                password: password.expose().to_owned(),
                ..Default::default()
            }),
            Secret::Token(token) => WireSecret::Token(token.expose().to_owned()),
        };
        wire::Credential {
            source: shorten(&self.source),
            secret: Some(secret),
            ..Default::default()
        }
    }

    fn from_wire(message: wire::Credential) -> Result<Self, InvalidAccess> {
        let source = shorten(&message.source);
        let secret = match message.secret {
            Some(WireSecret::Basic(basic)) => Secret::Basic {
                username: basic.username,
                password: SecretText::new(basic.password),
            },
            Some(WireSecret::Token(token)) => Secret::Token(SecretText::new(token)),
            None => return Err(InvalidAccess::NoSecret(source)),
        };
        Ok(Self { source, secret })
    }
}

/// Words for an event: bounded, in one line.
fn shorten(words: &str) -> String {
    let characters = words.chars().filter(|character| !character.is_control());
    characters.take(WORDS_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(source: &str) -> Credential {
        Credential {
            source: source.to_owned(),
            secret: Secret::Basic {
                username: "u".to_owned(),
                password: SecretText::new("hunter2".to_owned()),
            },
        }
    }

    fn access(credentials: Vec<Credential>) -> ImageAccess {
        ImageAccess {
            repository: Repository::of_image("example.com/team/app").unwrap(),
            credentials,
            remarks: vec!["Secret a does not exist".to_owned()],
        }
    }

    #[test]
    fn what_is_sent_arrives() {
        let token = Credential {
            source: "b".to_owned(),
            secret: Secret::Token(SecretText::new("t".to_owned())),
        };
        let sent = access(vec![credential("a"), token]);
        assert_eq!(ImageAccess::from_wire(sent.clone().into_wire()).unwrap(), sent);
        assert!(!format!("{sent:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_too_much_is_not_sent_and_not_taken() {
        let sent = access(vec![credential("a"); CREDENTIALS_LIMIT + 1]).into_wire();
        assert_eq!(sent.credentials.len(), CREDENTIALS_LIMIT);
        let mut sent = sent;
        sent.credentials.push(sent.credentials[0].clone());
        assert_eq!(ImageAccess::from_wire(sent).unwrap_err(), InvalidAccess::TooMany);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut sent = access(vec![credential("a")]).into_wire();
        sent.credentials[0].secret = None;
        assert_eq!(
            ImageAccess::from_wire(sent).unwrap_err(),
            InvalidAccess::NoSecret("a".to_owned())
        );
        assert!(matches!(
            ImageAccess::from_wire(Default::default()).unwrap_err(),
            InvalidAccess::Repository(_)
        ));
    }
}
