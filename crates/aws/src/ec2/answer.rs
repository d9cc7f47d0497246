//! What EC2's XML is read into.

use serde::{Deserialize, de::DeserializeOwned};

use crate::{Action, ErrorCode, Refusal, error::Cause, http_client::Reply};

/// The most characters of an explanation that is passed on.
const MESSAGE_LIMIT: usize = 1_000;

/// A list as EC2 writes it: elements `item` within another. A field of this type takes `#[serde(default)]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct Items<T> {
    /// The elements.
    #[serde(rename = "item", default = "Vec::new")]
    pub items: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

/// A tag.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Tag {
    /// The tag's name.
    pub key: String,
    /// The tag's value, which may be empty.
    #[serde(default)]
    pub value: String,
}

/// Reads the answer to `action`, and no other: all fields of some answers may be absent, so that a page of a proxy on
/// the way would pass for an empty list.
pub(crate) fn read<T: DeserializeOwned>(action: Action, body: &[u8]) -> Result<T, Cause> {
    let text = std::str::from_utf8(body)?;
    let root = text.trim_start().trim_start_matches('\u{feff}');
    let root = match root.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>").map_or("", |(_, rest)| rest).trim_start(),
        None => root,
    };
    let is_answer = root
        .strip_prefix('<')
        .and_then(|rest| rest.strip_prefix(action.name()))
        .is_some_and(|rest| rest.starts_with("Response"));
    if !is_answer {
        return Err(format!("it is no {}Response", action.name()).into());
    }
    parse(text)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Cause> {
    Ok(quick_xml::de::from_str(text)?)
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(rename = "Errors")]
    errors: Errors,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(rename = "Error")]
    error: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

/// Reads a refusal; one that has another form, as from a proxy on the way, is told by its status.
pub(crate) fn refusal(reply: &Reply) -> Refusal {
    let first = parse::<ErrorAnswer>(&String::from_utf8_lossy(&reply.body))
        .ok()
        .and_then(|answer| answer.errors.error.into_iter().next());
    match first {
        Some(error) => Refusal::new(
            ErrorCode::new(error.code),
            error.message.chars().take(MESSAGE_LIMIT).collect(),
        ),
        None => Refusal::unnamed(reply.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RefusalKind;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(default)]
        tag_set: Items<Tag>,
        next_token: Option<String>,
    }

    fn reply(status: u16, body: &'static str) -> Reply {
        Reply {
            status,
            headers: http::HeaderMap::new(),
            body: body.into(),
        }
    }

    #[test]
    fn lists_are_read_and_may_be_empty_or_absent() {
        let read = |body: &str| read::<Answer>(Action::CreateTags, body.as_bytes());
        let answer = read(
            "<?xml version=\"1.0\"?>\n<CreateTagsResponse xmlns=\"http://ec2\"><other/><tagSet><item><key>a</key>\
             <value>1 &amp; 2</value></item><item><key>b</key><value/></item></tagSet><nextToken>n</nextToken>\
             </CreateTagsResponse>",
        )
        .unwrap();
        let tags = answer.tag_set.items;
        assert_eq!((tags[0].value.as_str(), tags[1].value.as_str()), ("1 & 2", ""));
        assert_eq!(answer.next_token.as_deref(), Some("n"));
        let answer = read("<CreateTagsResponse><tagSet/></CreateTagsResponse>").unwrap();
        assert!(answer.tag_set.items.is_empty());
        let answer = read("<CreateTagsResponse/>").unwrap();
        assert!(answer.tag_set.items.is_empty() && answer.next_token.is_none());
        for wrong in [
            "",
            "{}",
            "<html/>",
            "<CreateTagsResponse><tagSet>",
            "<RunInstancesResponse/>",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_is_read_whoever_wrote_it() {
        let refused = refusal(&reply(
            400,
            "<?xml version=\"1.0\"?><Response><Errors><Error><Code>InsufficientInstanceCapacity</Code>\
             <Message>none left</Message></Error></Errors><RequestID>r</RequestID></Response>",
        ));
        assert_eq!(refused.kind, RefusalKind::Capacity);
        assert_eq!(refused.to_string(), "InsufficientInstanceCapacity: none left");
        let proxy = refusal(&reply(503, "<html>busy</html>"));
        assert_eq!((proxy.kind, proxy.code.as_str()), (RefusalKind::Internal, "503"));
    }
}
