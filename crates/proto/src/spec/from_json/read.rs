//! Reading members of JSON objects: absent ones as zero, those of another kind as a [`Fault`].

use std::collections::HashMap;

use protobuf::MessageField;
use serde_json::Value;

/// A member that is not what the specification says, and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::spec) struct Fault {
    pub(in crate::spec) path: String,
    pub(in crate::spec) expected: &'static str,
}

impl Fault {
    fn at(key: &str, expected: &'static str) -> Self {
        Self {
            path: key.to_owned(),
            expected,
        }
    }

    fn within(mut self, outer: &str) -> Self {
        self.path = format!("{outer}.{}", self.path);
        self
    }
}

pub(super) type Read<T> = Result<T, Fault>;

/// Reads one member by a function of its kind.
fn read<'a, T: Default>(
    object: &'a Value,
    key: &str,
    expected: &'static str,
    kind: impl FnOnce(&'a Value) -> Option<T>,
) -> Read<T> {
    match &object[key] {
        Value::Null => Ok(T::default()),
        member => kind(member).ok_or_else(|| Fault::at(key, expected)),
    }
}

pub(super) fn text(object: &Value, key: &str) -> Read<String> {
    read(object, key, "a text", |member| member.as_str().map(str::to_owned))
}

/// A text without which its object means nothing.
pub(super) fn needed_text(object: &Value, key: &str) -> Read<String> {
    let found = text(object, key)?;
    match found.is_empty() {
        true => Err(Fault::at(key, "a text that is not empty")),
        false => Ok(found),
    }
}

pub(super) fn texts(object: &Value, key: &str) -> Read<Vec<String>> {
    read(object, key, "a list of texts", |member| {
        let items = member.as_array()?.iter();
        items.map(|item| item.as_str().map(str::to_owned)).collect()
    })
}

pub(super) fn number(object: &Value, key: &str) -> Read<u64> {
    read(object, key, "a whole number that is not negative", Value::as_u64)
}

pub(super) fn number32(object: &Value, key: &str) -> Read<u32> {
    read(object, key, "a whole number of 32 bits", |member| {
        member.as_u64()?.try_into().ok()
    })
}

pub(super) fn numbers32(object: &Value, key: &str) -> Read<Vec<u32>> {
    read(object, key, "a list of whole numbers of 32 bits", |member| {
        let items = member.as_array()?.iter();
        items.map(|item| item.as_u64()?.try_into().ok()).collect()
    })
}

pub(super) fn signed(object: &Value, key: &str) -> Read<i64> {
    signed_or(object, key, 0)
}

/// A whole number for which something else than zero says that it is absent.
pub(super) fn signed_or(object: &Value, key: &str, absent: i64) -> Read<i64> {
    let found = read(object, key, "a whole number", |member| member.as_i64().map(Some))?;
    Ok(found.unwrap_or(absent))
}

pub(super) fn flag(object: &Value, key: &str) -> Read<bool> {
    read(object, key, "true or false", Value::as_bool)
}

pub(super) fn map(object: &Value, key: &str) -> Read<HashMap<String, String>> {
    read(object, key, "an object of texts", |member| {
        let entries = member.as_object()?.iter();
        entries
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect()
    })
}

pub(super) fn list<T>(object: &Value, key: &str, item: fn(&Value) -> Read<T>) -> Read<Vec<T>> {
    let items = read(object, key, "a list", |member| member.as_array().map(Some))?;
    let items = items.into_iter().flatten().enumerate();
    items
        .map(|(index, value)| match value.is_object() {
            true => item(value).map_err(|fault| fault.within(&format!("{key}[{index}]"))),
            false => Err(Fault::at(&format!("{key}[{index}]"), "an object")),
        })
        .collect()
}

pub(super) fn object<T>(object: &Value, key: &str, convert: fn(&Value) -> Read<T>) -> Read<MessageField<T>> {
    match &object[key] {
        Value::Null => Ok(MessageField::none()),
        member if member.is_object() => match convert(member) {
            Ok(converted) => Ok(MessageField::some(converted)),
            Err(fault) => Err(fault.within(key)),
        },
        _ => Err(Fault::at(key, "an object")),
    }
}
