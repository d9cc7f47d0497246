//! Why a guest was not launched.

use std::{io, path::PathBuf};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot {action}")]
    System { action: &'static str, source: io::Error },
    #[error("the order cannot be used")]
    Order(#[source] serde_json::Error),
    #[error("there is no network device {0}")]
    NoDevice(String),
    #[error("cannot {action} the network device {name}")]
    Link {
        action: &'static str,
        name: String,
        source: Box<rtnetlink::Error>,
    },
}

impl LaunchError {
    pub(crate) fn file<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |error| Self::File {
            action,
            path,
            source: error.into(),
        }
    }

    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System {
            action,
            source: error.into(),
        }
    }

    pub(crate) fn link(action: &'static str, name: &str) -> impl FnOnce(rtnetlink::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Link {
            action,
            name,
            source: Box::new(source),
        }
    }
}
