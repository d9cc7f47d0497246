//! Which namespaces may have peer pods, as a policy that the API server holds.

use kube::core::{Expression, Selector};
use peerpods_api::{PeerPodNamespaces, names};
use serde_json::{Value, json};

use crate::{
    managed::{Kind, ManagedObject},
    names::NAMESPACE_POLICY,
};

/// A policy of [`namespace_policy`] cannot be made: the selector cannot be read.
pub type InvalidSelector = kube::core::ParseExpressionError;

/// The policy and what makes it count: a peer pod in another namespace is refused, with what that namespace lacks.
///
/// # Errors
/// The selector cannot be read: objects from before the schema had a rule for it.
pub fn namespace_policy(allowed: &PeerPodNamespaces) -> Result<[ManagedObject; 2], InvalidSelector> {
    let selector = allowed.selector.clone().map(Selector::try_from).transpose()?;
    let mut ways = vec![format!("request.namespace in {}", json!(allowed.names))];
    let mut described: Vec<String> = allowed.names.clone();
    if let Some(selector) = &selector {
        described.push(format!("those with labels {selector}"));
        ways.push(format!("({})", matches(selector)));
    }
    let policy = json!({"spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "Namespaced",
        }]},
        "matchConditions": [{
            "name": "is-a-peer-pod",
            "expression": format!(
                "has(object.spec.runtimeClassName) && object.spec.runtimeClassName == {}",
                json!(names::RUNTIME_CLASS)
            ),
        }],
        "validations": [{
            "expression": ways.join(" || "),
            "message": format!(
                "peer pods are not allowed in this namespace: peerPodNamespaces of the KataConfig allows {}",
                described.join(", ")
            ),
            "reason": "Forbidden",
        }],
    }});
    let binding = json!({"spec": {"policyName": NAMESPACE_POLICY, "validationActions": ["Deny"]}});
    Ok([
        ManagedObject::new(Kind::ValidatingAdmissionPolicy, NAMESPACE_POLICY, "", policy),
        ManagedObject::new(
            Kind::ValidatingAdmissionPolicyBinding,
            NAMESPACE_POLICY,
            "",
            binding,
        ),
    ])
}

/// CEL: whether the labels of the namespace are such. Every namespace has one, its name, so that there always are labels.
fn matches(selector: &Selector) -> String {
    /// What the API server reads them from.
    const LABELS: &str = "namespaceObject.metadata.labels";
    let has = |key: &str| format!("{} in {LABELS}", Value::from(key));
    let among =
        |key: &str, values: Value| format!("{} && {LABELS}[{}] in {values}", has(key), Value::from(key));
    let requirements = selector.clone().into_iter().map(|requirement| match requirement {
        Expression::In(key, values) => among(&key, json!(values)),
        Expression::NotIn(key, values) => format!("!({})", among(&key, json!(values))),
        Expression::Equal(key, value) => among(&key, json!([value])),
        Expression::NotEqual(key, value) => format!("!({})", among(&key, json!([value]))),
        Expression::Exists(key) => has(&key),
        Expression::DoesNotExist(key) => format!("!({})", has(&key)),
    });
    let all = requirements
        .map(|one| format!("({one})"))
        .collect::<Vec<_>>()
        .join(" && ");
    if all.is_empty() { "true".to_owned() } else { all }
}
