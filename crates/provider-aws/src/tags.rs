//! An owner as tags of an instance, and back.

use peerpods_aws::Tag;
use peerpods_provider::{Assignment, LaunchToken, Owner, PodIdentity, ProviderError};

/// What all tags of this project's begin with: nobody else sets these.
pub(crate) const PREFIX: &str = "kata.peerpods.io/";

/// The tag that people see as an instance's name.
pub(crate) const NAME: &str = "Name";

/// The launch token.
pub(crate) const TOKEN: &str = "kata.peerpods.io/token";
/// The cluster's id.
pub(crate) const CLUSTER: &str = "kata.peerpods.io/cluster";
/// The worker node.
pub(crate) const NODE: &str = "kata.peerpods.io/node";
/// [`WARM`] or [`POD`].
const ASSIGNMENT: &str = "kata.peerpods.io/assignment";
const WARM: &str = "warm";
const POD: &str = "pod";
const NAMESPACE: &str = "kata.peerpods.io/pod-namespace";
const POD_NAME: &str = "kata.peerpods.io/pod-name";
const POD_UID: &str = "kata.peerpods.io/pod-uid";
const SANDBOX: &str = "kata.peerpods.io/sandbox";

/// How an instance gets its public addresses, where EC2 does not see to that: [`ELASTIC`].
pub(crate) const ADDRESSING: &str = "kata.peerpods.io/addressing";
pub(crate) const ELASTIC: &str = "elastic";
/// Whose an elastic address is: the instance.
pub(crate) const INSTANCE: &str = "kata.peerpods.io/instance";
/// The filter of addresses by [`INSTANCE`].
pub(crate) const INSTANCE_FILTER: &str = "tag:kata.peerpods.io/instance";
/// And the number of the interface there, from 0.
pub(crate) const INTERFACE: &str = "kata.peerpods.io/interface";

/// The most characters of a tag's value, by EC2.
pub(crate) const VALUE_LIMIT: usize = 256;
/// The most characters of a tag's name, by EC2.
pub(crate) const KEY_LIMIT: usize = 128;
/// The most tags of one resource, by EC2.
pub(crate) const COUNT_LIMIT: usize = 50;
/// The most tags of one resource that are this project's own: those above that it has, and the name.
pub(crate) const OWN_COUNT: usize = 11;

/// The tags of a launch, the name apart.
pub(crate) fn of_launch(token: &LaunchToken, owner: &Owner) -> Result<Vec<(String, String)>, ProviderError> {
    let mut tags = vec![
        (TOKEN.to_owned(), token.to_string()),
        (CLUSTER.to_owned(), owner.cluster.clone()),
        (NODE.to_owned(), owner.node.clone()),
    ];
    match &owner.assignment {
        Assignment::Warm => tags.push((ASSIGNMENT.to_owned(), WARM.to_owned())),
        Assignment::Pod(pod) => tags.append(&mut of_pod(pod)?),
    }
    check(&tags)?;
    Ok(tags)
}

/// The tags that make an instance a pod's.
pub(crate) fn of_pod(pod: &PodIdentity) -> Result<Vec<(String, String)>, ProviderError> {
    let mut tags = vec![
        (ASSIGNMENT.to_owned(), POD.to_owned()),
        (NAMESPACE.to_owned(), pod.pod_namespace.clone()),
        (POD_NAME.to_owned(), pod.pod_name.clone()),
        (SANDBOX.to_owned(), pod.sandbox.clone()),
    ];
    if let Some(uid) = &pod.pod_uid {
        tags.push((POD_UID.to_owned(), uid.clone()));
    }
    check(&tags)?;
    Ok(tags)
}

/// A value that EC2 would cut or refuse must not be found out about after the launch.
fn check(tags: &[(String, String)]) -> Result<(), ProviderError> {
    match tags.iter().find(|(_, value)| value.chars().count() > VALUE_LIMIT) {
        Some((key, _)) => Err(ProviderError::InvalidRequest(format!(
            "the tag {key} would have more than {VALUE_LIMIT} characters"
        ))),
        None => Ok(()),
    }
}

/// Whose an instance is; none where its tags do not say so, because somebody changed them.
pub(crate) fn owner(tags: &[Tag]) -> Option<(LaunchToken, Owner)> {
    let value = |key: &str| value(tags, key).map(str::to_owned);
    let assignment = match value(ASSIGNMENT)?.as_str() {
        WARM => Assignment::Warm,
        POD => Assignment::Pod(PodIdentity {
            sandbox: value(SANDBOX)?,
            pod_namespace: value(NAMESPACE)?,
            pod_name: value(POD_NAME)?,
            pod_uid: value(POD_UID),
        }),
        _ => return None,
    };
    let owner = Owner {
        cluster: value(CLUSTER)?,
        node: value(NODE)?,
        assignment,
    };
    Some((value(TOKEN)?.try_into().ok()?, owner))
}

/// The value of one tag.
pub(crate) fn value<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    let found = tags.iter().find(|tag| tag.key == key);
    found.map(|tag| tag.value.as_str())
}

#[cfg(test)]
mod tests {
    use peerpods_provider::conformance::{request, warm_request};

    use super::*;

    fn as_tags(pairs: Vec<(String, String)>) -> Vec<Tag> {
        pairs.into_iter().map(|(key, value)| Tag { key, value }).collect()
    }

    #[test]
    fn owners_come_back_as_they_were() {
        for request in [request("tagged", "node-a"), warm_request("warm")] {
            let tags = as_tags(of_launch(&request.token, &request.owner).unwrap());
            assert!(tags.len() < OWN_COUNT);
            assert_eq!(owner(&tags), Some((request.token, request.owner)));
        }
    }

    #[test]
    fn a_pod_without_uid_and_tags_that_are_missing() {
        let mut request = request("stock", "node-a");
        let Assignment::Pod(pod) = &mut request.owner.assignment else {
            unreachable!()
        };
        pod.pod_uid = None;
        let mut tags = as_tags(of_launch(&request.token, &request.owner).unwrap());
        assert_eq!(owner(&tags).unwrap().1, request.owner);
        tags.retain(|tag| tag.key != SANDBOX);
        assert_eq!(owner(&tags), None);
        assert_eq!(owner(&[]), None);
    }

    #[test]
    fn what_ec2_would_not_take_is_refused_before() {
        let mut request = request("long", "node-a");
        request.owner.node = "n".repeat(257);
        let error = of_launch(&request.token, &request.owner).unwrap_err();
        assert!(error.to_string().contains("kata.peerpods.io/node"), "{error}");
    }
}
