//! The little of EC2's XML that the emulator changes or looks at.

use std::{io, num::ParseIntError, str::FromStr};

use crate::http::HttpReply;

/// The texts of all elements of this name.
pub(super) fn values(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = xml.split(&open).skip(1);
    let mut found: Vec<String> = parts
        .filter_map(|part| part.split_once(&close))
        .map(|(text, _)| text.to_owned())
        .collect();
    found.dedup();
    found
}

/// The first text of that name.
///
/// # Errors
/// There is none.
pub(super) fn first(xml: &str, name: &str) -> io::Result<String> {
    let found = values(xml, name).into_iter().next();
    found.ok_or_else(|| io::Error::other(format!("there is no {name} in what EC2 shows: {xml}")))
}

/// A number in an answer.
///
/// # Errors
/// It is none.
pub(super) fn number<T: FromStr<Err = ParseIntError>>(text: &str) -> io::Result<T> {
    text.parse()
        .map_err(|error| io::Error::other(format!("{text:?} is no number: {error}")))
}

/// A refusal.
pub(super) fn refusal(status: u16, code: &str) -> HttpReply {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Response><Errors><Error><Code>{code}</Code>\
         <Message>by the emulator</Message></Error></Errors><RequestID>none</RequestID></Response>"
    );
    HttpReply {
        status,
        headers: Vec::new(),
        body: text.into_bytes(),
    }
}

/// An answer without those entries of its list `set` in which an element `name` is one of these.
pub(super) fn without(xml: &str, set: &str, name: &str, hidden: &[String]) -> String {
    let open = format!("<{set}>");
    let Some((head, rest)) = xml.split_once(&open) else {
        return xml.to_owned();
    };
    let mut kept = format!("{head}{open}");
    let mut rest = rest;
    while let Some(end) = first_item_end(rest) {
        let (item, more) = rest.split_at(end);
        let is_hidden = |id: &String| item.contains(&format!("<{name}>{id}</{name}>"));
        if !hidden.iter().any(is_hidden) {
            kept += item;
        }
        rest = more;
    }
    kept + rest
}

/// Where the item ends that the text begins with; none when it begins with something else.
fn first_item_end(text: &str) -> Option<usize> {
    const OPEN: &str = "<item>";
    const CLOSE: &str = "</item>";
    if !text.starts_with(OPEN) {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let open = text[at..].find(OPEN).map(|found| at + found);
        let close = text[at..].find(CLOSE).map(|found| at + found)?;
        match open.filter(|open| *open < close) {
            Some(open) => {
                depth += 1;
                at = open + OPEN.len();
            }
            None => {
                depth -= 1;
                at = close + CLOSE.len();
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_instances_take_their_reservations_along() {
        let of = |id: &str| {
            format!(
                "<item><groupSet><item>x</item></groupSet><instancesSet><item><instanceId>{id}</instanceId></item></instancesSet></item>"
            )
        };
        let answer =
            |inner: &str| format!("<R><reservationSet>{inner}</reservationSet><requestId>r</requestId></R>");
        let all = answer(&format!("{}{}{}", of("i-1"), of("i-2"), of("i-3")));
        let shown = |all: &str| without(all, "reservationSet", "instanceId", &["i-2".to_owned()]);
        assert_eq!(shown(&all), answer(&format!("{}{}", of("i-1"), of("i-3"))));
        assert_eq!(shown(&answer("")), answer(""));
        assert_eq!(values(&all, "instanceId"), ["i-1", "i-2", "i-3"]);
    }
}
