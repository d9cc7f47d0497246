//! Parameters of a Query call.

use std::borrow::Cow;

use crate::Action;

/// The version of the API that every request names: EC2 has had no other since.
const VERSION: &str = "2016-11-15";

/// The parameters of one call, in EC2's notation: `ImageId`, `Filter.1.Value.2`. Not shown in logs, because user data
/// holds a secret.
#[derive(Clone, Default)]
pub struct Parameters {
    pairs: Vec<(Cow<'static, str>, String)>,
}

impl Parameters {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl ToString) -> &mut Self {
        self.pairs.push((name.into(), value.to_string()));
        self
    }

    /// Adds one where there is a value.
    pub fn set_some(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: Option<impl ToString>,
    ) -> &mut Self {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    /// Adds `NAME.1`, `NAME.2` and so on.
    pub fn set_list<V: ToString>(&mut self, name: &str, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            self.set(format!("{name}.{}", index + 1), value);
        }
        self
    }

    /// Adds the filter number `index`, from 1: entries that have any of the values.
    pub fn set_filter<V: ToString>(
        &mut self,
        index: usize,
        name: impl ToString,
        values: impl IntoIterator<Item = V>,
    ) -> &mut Self {
        self.set(format!("Filter.{index}.Name"), name);
        self.set_list(&format!("Filter.{index}.Value"), values)
    }

    /// Adds `PREFIX.N.Key` and `PREFIX.N.Value` for each tag.
    pub fn set_tags<'a>(
        &mut self,
        prefix: &str,
        tags: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> &mut Self {
        for (index, (key, value)) in tags.into_iter().enumerate() {
            self.set(format!("{prefix}.{}.Key", index + 1), key);
            self.set(format!("{prefix}.{}.Value", index + 1), value);
        }
        self
    }

    /// The body of the request.
    pub(crate) fn body(&self, action: Action) -> String {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action.name())
            .append_pair("Version", VERSION)
            .extend_pairs(&self.pairs)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_filters_and_tags_are_numbered() {
        let mut parameters = Parameters::new();
        parameters
            .set_list("InstanceId", ["i-1", "i-2"])
            .set_filter(1, "tag:team", ["a&b"])
            .set_tags("Tag", [("Name", "grün")])
            .set_some("KeyName", None::<&str>);
        assert_eq!(
            parameters.body(Action::DescribeInstances),
            "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.2=i-2\
             &Filter.1.Name=tag%3Ateam&Filter.1.Value.1=a%26b&Tag.1.Key=Name&Tag.1.Value=gr%C3%BCn"
        );
    }
}
