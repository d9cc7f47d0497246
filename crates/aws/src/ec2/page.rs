//! Pages of EC2's lists, which are alike but for the name of what they hold.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};

use super::Items;
use crate::Action;

/// An entry of one of EC2's lists.
pub trait Listed: DeserializeOwned {
    /// The call that lists it.
    const ACTION: Action;
    /// The element of the answer that holds the entries, for example `imagesSet`.
    const SET: &'static str;
}

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) entries: Vec<T>,
    /// Of the next page; none, or an empty one, on the last.
    pub(super) next_token: Option<String>,
}

impl<'de, T: Listed> Deserialize<'de> for Page<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PageVisitor(PhantomData))
    }
}

struct PageVisitor<T>(PhantomData<T>);

impl<'de, T: Listed> Visitor<'de> for PageVisitor<T> {
    type Value = Page<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an answer to {}", T::ACTION.name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Page<T>, A::Error> {
        let mut page = Page {
            entries: Vec::new(),
            next_token: None,
        };
        while let Some(name) = map.next_key::<String>()? {
            if name == T::SET {
                page.entries = map.next_value::<Items<T>>()?.items;
            } else if name == "nextToken" {
                page.next_token = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tag;

    impl Listed for Tag {
        const ACTION: Action = Action::DescribeInstances;
        const SET: &'static str = "tagSet";
    }

    fn read(body: &str) -> (Vec<String>, Option<String>) {
        let page: Page<Tag> = quick_xml::de::from_str(body).unwrap();
        let keys = page.entries.into_iter().map(|tag| tag.key);
        (keys.collect(), page.next_token)
    }

    #[test]
    fn a_page_has_entries_and_the_token_of_the_next() {
        let (keys, next) = read(
            "<R xmlns=\"http://ec2\"><requestId>r</requestId><other><item><key>x</key></item></other>\
             <tagSet><item><key>a</key></item><item><key>b</key></item></tagSet><nextToken>n</nextToken></R>",
        );
        assert_eq!(
            (keys, next.as_deref()),
            (vec!["a".to_owned(), "b".to_owned()], Some("n"))
        );
        for empty in ["<R><tagSet/></R>", "<R/>", "<R><requestId>r</requestId></R>"] {
            assert_eq!(read(empty), (Vec::new(), None), "{empty}");
        }
    }
}
