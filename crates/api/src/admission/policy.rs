//! The same change as a MutatingAdmissionPolicy (Kubernetes 1.36 or later): the API server does it alone.

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use serde_json::{Value, json};

use super::{
    PodAdmission, cel_text,
    expressions::{DIMENSIONS, REFUSAL, conclusions, dimension_variables, patches, variables},
};

/// The policy's name, and that of its binding.
pub const POLICY: &str = "peerpods";

/// The policy, and the binding that turns it on.
///
/// It does what the webhook does, as one table of cases shows, but for the annotation with a pod's own resources: where a
/// user writes it, it is read only in the form in which it is written here, and refused otherwise.
pub fn policy(admission: &PodAdmission) -> (MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding) {
    let mut all: Vec<(String, String)> = variables(&cel_text(&admission.vm_resource));
    for dimension in &DIMENSIONS {
        all.extend(dimension_variables(dimension));
    }
    all.extend(conclusions());
    let variables: Vec<Value> = all
        .into_iter()
        .map(|(name, expression)| json!({"name": name, "expression": expression}))
        .collect();
    let policy = json!({
        "metadata": {"name": POLICY},
        "spec": {
            "matchConstraints": {
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                                   "operations": ["CREATE"], "scope": "Namespaced"}],
                "namespaceSelector": admission.namespace_selector(),
                "matchPolicy": "Equivalent",
            },
            "matchConditions": [admission.match_condition()],
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "variables": variables,
            "mutations": [mutation(REFUSAL), mutation(&patches(&cel_text(&admission.vm_resource)))],
        },
    });
    let binding = json!({"metadata": {"name": POLICY}, "spec": {"policyName": POLICY}});
    (
        serde_json::from_value(policy).expect("the object above is a policy"),
        serde_json::from_value(binding).expect("the object above is a binding"),
    )
}

fn mutation(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}
