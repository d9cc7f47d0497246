//! What is changed of an object, as JSON Patch (RFC 6902) says it.

use serde::Serialize;
use serde_json::Value;

/// Changes, in their order.
pub type Patch = Vec<Operation>;

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Sets a member of an object, whether it was there or not.
    Add {
        /// Where, as a JSON Pointer.
        path: String,
        /// To what.
        value: Value,
    },
    /// Removes a member, which was there.
    Remove {
        /// Where, as a JSON Pointer.
        path: String,
    },
}

/// A member's name as JSON Pointers write it.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
