//! An AdmissionReview of the API server, and the answer to it.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use peerpods_api::admission::PodAdmission;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{mutate::mutate, patch::Patch, pod::Pod};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What became of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The pod is created as it is.
    Unchanged,
    /// The pod is created with changes.
    Changed,
    /// The pod is refused.
    Refused,
    /// It was no review, or not of a pod.
    Malformed,
}

/// What the API server is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What became of the review.
    pub outcome: Outcome,
    /// Whose review it was, for the log.
    pub subject: Subject,
    /// Why a pod was refused, or what is wrong with the review.
    pub message: Option<String>,
    /// The review with its response; none where there was no review to respond to.
    pub body: Option<String>,
}

/// The pod that a review is about, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name, or how it will begin.
    pub pod: String,
    /// The review's id, which is in the API server's audit log.
    pub review: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    kind: Kind<'a>,
    #[serde(borrow, default)]
    sub_resource: Option<Cow<'a, str>>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// Answers a review. Only pods that are being created are ever changed; whatever else is asked is allowed as it is.
pub fn answer(body: &[u8], admission: &PodAdmission) -> Answer {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let review: Review<'_> = match serde_path_to_error::deserialize(&mut reader) {
        Ok(review) => review,
        Err(error) => return malformed(format!("the body is no {KIND}: {error}")),
    };
    if review.api_version != API_VERSION || review.kind != KIND {
        let (version, kind) = (shortened(&review.api_version), shortened(&review.kind));
        return malformed(format!(
            "the body is {version}, {kind}, and not {API_VERSION}, {KIND}"
        ));
    }
    match review.request {
        Some(request) => respond(&request, admission),
        None => malformed(format!("the {KIND} has no request")),
    }
}

fn respond(request: &Request<'_>, admission: &PodAdmission) -> Answer {
    let mut subject = Subject {
        namespace: request.namespace.as_deref().unwrap_or_default().to_owned(),
        pod: String::new(),
        review: request.uid.clone().into_owned(),
    };
    let is_pod = request.kind.group.is_empty() && request.kind.version == "v1" && request.kind.kind == "Pod";
    if !is_pod {
        let Kind { group, version, kind } = &request.kind;
        let what = format!("{} {} {}", shortened(group), shortened(version), shortened(kind));
        return refused(
            Outcome::Malformed,
            subject,
            400,
            format!("the review is of {what}, and not of a Pod"),
        );
    }
    let is_creation =
        request.operation == "CREATE" && request.sub_resource.as_deref().unwrap_or_default().is_empty();
    if !is_creation {
        return allowed(subject, &Patch::new());
    }
    let Some(object) = request.object else {
        return refused(
            Outcome::Malformed,
            subject,
            400,
            "the review has no object".to_owned(),
        );
    };
    let mut reader = serde_json::Deserializer::from_str(object.get());
    let pod: Pod = match serde_path_to_error::deserialize(&mut reader) {
        Ok(pod) => pod,
        Err(error) => {
            return refused(
                Outcome::Malformed,
                subject,
                400,
                format!("the pod cannot be read: {error}"),
            );
        }
    };
    pod.name().clone_into(&mut subject.pod);
    match mutate(&subject.namespace, &pod, admission) {
        Ok(patch) => allowed(subject, &patch),
        Err(refusal) => refused(Outcome::Refused, subject, 422, refusal.to_string()),
    }
}

fn allowed(subject: Subject, patch: &Patch) -> Answer {
    let mut response = json!({"uid": subject.review, "allowed": true});
    let outcome = if patch.is_empty() {
        Outcome::Unchanged
    } else {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(STANDARD.encode(json!(patch).to_string()));
        Outcome::Changed
    };
    Answer {
        outcome,
        subject,
        message: None,
        body: Some(with_response(&response)),
    }
}

fn refused(outcome: Outcome, subject: Subject, code: u16, message: String) -> Answer {
    let status = json!({"code": code, "message": message});
    let response = json!({"uid": subject.review, "allowed": false, "status": status});
    Answer {
        outcome,
        subject,
        message: Some(message),
        body: Some(with_response(&response)),
    }
}

fn malformed(message: String) -> Answer {
    Answer {
        outcome: Outcome::Malformed,
        subject: Subject::default(),
        message: Some(message),
        body: None,
    }
}

fn with_response(response: &serde_json::Value) -> String {
    json!({"apiVersion": API_VERSION, "kind": KIND, "response": response}).to_string()
}

/// A name from anywhere, short enough for a message.
fn shortened(name: &str) -> String {
    const SHOWN_CHARACTERS: usize = 64;
    format!("{:?}", name.chars().take(SHOWN_CHARACTERS).collect::<String>())
}
