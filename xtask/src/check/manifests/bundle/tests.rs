//! What `operator-sdk bundle validate` looks at, of the bundle as it is kept.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{super::read_folder, Files, text};
use crate::process::root;

/// A bundle is kept in a ConfigMap while it is unpacked.
const SIZE_LIMIT: usize = 1 << 20;

struct Bundle {
    files: Files,
}

impl Bundle {
    fn read() -> Self {
        let files = read_folder(&root().join("deploy/bundle"), "").unwrap();
        Self { files }
    }

    fn objects(&self) -> Vec<Value> {
        let manifests = self
            .files
            .iter()
            .filter(|(name, _)| name.starts_with("manifests/"));
        manifests
            .map(|(name, text)| {
                serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
            })
            .collect()
    }

    fn version(&self) -> Value {
        let mut objects = self.objects();
        objects.retain(|object| object["kind"] == "ClusterServiceVersion");
        assert_eq!(objects.len(), 1, "a bundle has one version");
        objects.remove(0)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn its_annotations_lead_to_its_folders() {
    let bundle = Bundle::read();
    let annotations: Value = serde_saphyr::from_str(&bundle.files["metadata/annotations.yaml"]).unwrap();
    let annotation = |name: &str| {
        let key = format!("operators.operatorframework.io.bundle.{name}.v1");
        text(&annotations["annotations"][key]).to_owned()
    };
    assert_eq!(annotation("mediatype"), "registry+v1");
    assert_eq!(
        (annotation("manifests"), annotation("metadata")),
        ("manifests/".into(), "metadata/".into())
    );
    assert_eq!(annotation("channel.default"), annotation("channels"));
    let name = bundle.version()["metadata"]["name"].clone();
    assert!(text(&name).starts_with(&format!("{}.v", annotation("package"))));
    assert!(bundle.files.values().map(String::len).sum::<usize>() < SIZE_LIMIT);
}

#[test]
fn it_owns_the_definitions_that_it_brings_and_has_an_example_of_each() {
    let bundle = Bundle::read();
    let version = bundle.version();
    let owned: BTreeSet<_> = list(&version["spec"]["customresourcedefinitions"]["owned"])
        .iter()
        .map(|one| [&one["name"], &one["kind"], &one["version"]].map(|value| text(value).to_owned()))
        .collect();
    let brought: BTreeSet<_> = bundle
        .objects()
        .iter()
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .map(|object| {
            let spec = &object["spec"];
            [
                &object["metadata"]["name"],
                &spec["names"]["kind"],
                &spec["versions"][0]["name"],
            ]
            .map(|value| text(value).to_owned())
        })
        .collect();
    assert_eq!((owned.len(), &owned), (3, &brought));
    let examples = text(&version["metadata"]["annotations"]["alm-examples"]);
    let examples: Vec<Value> = serde_json::from_str(examples).unwrap();
    let shown: BTreeSet<_> = examples.iter().map(|example| text(&example["kind"])).collect();
    assert_eq!(shown, owned.iter().map(|[_, kind, _]| kind.as_str()).collect());
}

#[test]
fn its_deployment_has_an_account_with_rights_and_every_field_has_a_value() {
    let version = Bundle::read().version();
    let spec = &version["spec"];
    for field in [
        "displayName",
        "description",
        "version",
        "minKubeVersion",
        "maturity",
    ] {
        assert!(!text(&spec[field]).is_empty(), "{field}");
    }
    let number = text(&spec["version"]);
    assert!(number.split('.').count() == 3 && text(&version["metadata"]["name"]).ends_with(number));
    let modes = list(&spec["installModes"]);
    assert!(modes.len() == 4 && modes.iter().any(|mode| mode["supported"] == true));

    let install = &spec["install"]["spec"];
    let deployment = &list(&install["deployments"])[0]["spec"]["template"]["spec"];
    let all: Vec<_> = [&install["clusterPermissions"], &install["permissions"]]
        .into_iter()
        .flat_map(list)
        .collect();
    assert!(
        all.iter()
            .any(|one| one["serviceAccountName"] == deployment["serviceAccountName"])
    );
    assert!(all.iter().all(|one| !list(&one["rules"]).is_empty()));
    let related: BTreeSet<_> = list(&spec["relatedImages"])
        .iter()
        .map(|image| text(&image["image"]))
        .collect();
    assert_eq!(related.len(), 4, "whoever mirrors images finds all: {related:?}");
}
