//! What is secret is taken out: values of Secrets wherever they stand, and what looks like a credential.
//!
//! Rather too much is removed than too little: a word that is missing can be asked for, one that was sent cannot be taken back.

use std::{collections::BTreeSet, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

/// What stands where something stood.
const REMOVED: &str = "(removed)";
/// Shorter values of Secrets are words such as `true`: to remove them everywhere would leave no text.
const LEARNT_BYTES: usize = 6;
/// A copy of an object as its author wrote it, also of what is removed from the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The length of a secret key of AWS, which has no other sign.
const AWS_SECRET_KEY: usize = 40;
/// More of these, and it is a path.
const AWS_SECRET_KEY_SLASHES: usize = 3;

/// Names of what is secret.
const SECRET_NAME: &str = r"(?i)pass(?:word|wd|phrase)|secret|token|credential|private_?-?key|access_?-?key|api_?-?key|authorization|signature|cookie|dockerconfig|kubeconfig|auth\.json";
/// Names that only say where a secret is.
const REFERENCE: &str =
    r"(?i)(?:name|names|namespace|file|path|dir|ref|reason|policy|audience|type|revision)$";

static PATTERNS: LazyLock<Patterns> = LazyLock::new(Patterns::new);

struct Patterns {
    secret_name: Regex,
    reference: Regex,
    /// `name=value`, `name: value`, `"name": "value"`, also within quoted text.
    assignment: Regex,
    /// Each with what it is replaced by.
    shapes: Vec<(Regex, String)>,
    word: Regex,
}

impl Patterns {
    fn new() -> Self {
        let regex =
            |text: &str| Regex::new(text).expect("the pattern is one, which the tests of this file show");
        let name = SECRET_NAME.trim_start_matches("(?i)");
        let shape = |text: &str, by: &str| (regex(text), by.to_owned());
        Self {
            secret_name: regex(SECRET_NAME),
            reference: regex(REFERENCE),
            assignment: regex(&format!(
                r#"(?i)([\w.-]*(?:{name})[\w.-]*)(\\?["']?\s*[=:]\s*\\?["']?)((?:bearer|basic)\s+)?([^\s"'\\,;&}}]+)"#
            )),
            shapes: vec![
                shape(
                    r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
                    REMOVED,
                ),
                shape(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", REMOVED),
                shape(r"\beyJ[\w-]{8,}\.[\w-]+\.?[\w-]*", REMOVED),
                shape(r"(?i)\bbearer\s+[\w.~+/=-]{8,}", "Bearer (removed)"),
                shape(r#"://[^/\s:@"']*:[^/\s@"']+@"#, "://(removed)@"),
                shape(
                    r#"(?i)(\\?"(?:auth|identitytoken)\\?"\s*:\s*\\?")[^"\\]+"#,
                    "${1}(removed)",
                ),
            ],
            word: regex(r"[A-Za-z0-9/+]{40,}"),
        }
    }
}

/// Takes out what is secret.
#[derive(Default)]
pub(super) struct Redactor {
    /// The longest first: one may be part of another.
    values: BTreeSet<(std::cmp::Reverse<usize>, String)>,
}

impl Redactor {
    /// Looks for this Secret's values from now on, as they are and in base64. Certificates are for everybody to see.
    pub(super) fn learn(&mut self, secret: &Value) {
        let data = secret["data"].as_object().into_iter().flatten();
        for (key, value) in data {
            let encoded = value.as_str().unwrap_or_default();
            if key.ends_with(".crt") {
                continue;
            }
            self.look_for(encoded);
            let decoded = STANDARD.decode(encoded).ok();
            let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
                continue;
            };
            self.look_for(text.trim());
            // Registry credentials are JSON, and stand elsewhere in parts.
            if let Ok(parsed) = serde_json::from_str::<Value>(&text) {
                self.look_for_strings(&parsed);
            }
        }
    }

    fn look_for_strings(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.look_for(text),
            Value::Array(items) => items.iter().for_each(|item| self.look_for_strings(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.look_for_strings(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn look_for(&mut self, text: &str) {
        if text.len() >= LEARNT_BYTES {
            self.values
                .insert((std::cmp::Reverse(text.len()), text.to_owned()));
        }
    }

    /// A text without what is secret.
    pub(super) fn clean_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (_, value) in &self.values {
            if text.contains(value) {
                text = text.replace(value, REMOVED);
            }
        }
        for (pattern, by) in &PATTERNS.shapes {
            text = pattern.replace_all(&text, by).into_owned();
        }
        let assigned = |found: &Captures<'_>| {
            if PATTERNS.reference.is_match(&found[1]) {
                found[0].to_owned()
            } else {
                format!("{}{}{REMOVED}", &found[1], &found[2])
            }
        };
        text = PATTERNS.assignment.replace_all(&text, assigned).into_owned();
        let word = |found: &Captures<'_>| {
            let found = &found[0];
            if is_aws_secret_key(found) { REMOVED } else { found }.to_owned()
        };
        PATTERNS.word.replace_all(&text, word).into_owned()
    }

    /// Cleans an object, however deep.
    pub(super) fn clean(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.clean_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean(item)),
            Value::Object(fields) => self.clean_fields(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn clean_fields(&self, fields: &mut Map<String, Value>) {
        // Who wrote which field: much, and of no use here.
        fields.remove("managedFields");
        fields.remove(LAST_APPLIED);
        // An entry of an environment: a name, and a value beside it.
        let named_secret = fields
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(is_secret_name);
        for (key, value) in fields.iter_mut() {
            let hidden = is_secret_name(key) || key == "value" && named_secret;
            match value {
                Value::String(text) if hidden && !text.is_empty() => REMOVED.clone_into(text),
                _ => self.clean(value),
            }
        }
    }
}

/// Of a Secret its name, type and keys, with the size of each value.
pub(super) fn outline(secret: &Value) -> Value {
    let data = secret["data"].as_object().into_iter().flatten();
    let keys: Map<_, _> = data
        .map(|(key, value)| {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default());
            (key.clone(), json!(bytes.unwrap_or_default().len()))
        })
        .collect();
    let metadata = &secret["metadata"];
    json!({
        "name": metadata["name"], "type": secret["type"], "created": metadata["creationTimestamp"],
        "labels": metadata["labels"], "bytesOfKeys": keys,
    })
}

fn is_secret_name(name: &str) -> bool {
    PATTERNS.secret_name.is_match(name) && !PATTERNS.reference.is_match(name)
}

fn is_aws_secret_key(word: &str) -> bool {
    let has = |is: fn(&u8) -> bool| word.bytes().any(|byte| is(&byte));
    let slashes = word.bytes().filter(|byte| *byte == b'/').count();
    word.len() == AWS_SECRET_KEY
        && slashes <= AWS_SECRET_KEY_SLASHES
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
