//! The definitions of our custom resources, as the API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::{KataConfig, PeerPod, PeerPodConfig};

/// All definitions.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut all = vec![KataConfig::crd(), PeerPodConfig::crd(), PeerPod::crd()];
    all.iter_mut().for_each(let_spec_be_absent);
    all
}

/// One definition as the text of a manifest.
///
/// # Errors
/// Those of the YAML writer, which no definition of [`all`] causes.
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(definition)
}

/// Today's objects may have no spec, or null; Kubernetes fills in the defaults of its fields only where there is one.
fn let_spec_be_absent(definition: &mut CustomResourceDefinition) {
    let versions = definition.spec.versions.iter_mut();
    for schema in versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        schema.required = None;
        if let Some(spec) = spec_of(schema) {
            spec.default = Some(JSON(json!({})));
        }
    }
}

fn spec_of(schema: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    schema.properties.as_mut()?.get_mut("spec")
}

/// The schema of a label selector: the type's own has no bound, without which no rule may look at every requirement.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
            "matchExpressions": {
                "type": "array",
                "maxItems": 64,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string"},
                        "operator": {"type": "string"},
                        "values": {"type": "array", "items": {"type": "string"}}
                    }
                }
            }
        }
    })
}
