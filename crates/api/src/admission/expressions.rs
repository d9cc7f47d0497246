//! The change of a peer pod in CEL, which has neither functions nor a way to read JSON: variables build on one another, and
//! a pod's own resources are kept and read back as text.
//!
//! An *entry* is what one container may use: the text of its limits and that of its requests, each a JSON object or empty.

use crate::names::{GPU_RESOURCE, annotations};

/// One dimension of a VM.
pub(super) struct Dimension {
    /// What its variables' names begin with.
    word: &'static str,
    resource: &'static str,
    /// The annotation that tells it.
    annotation: &'static str,
    /// Resource units in one unit of the annotation.
    unit: u64,
    /// The annotation's unit, for people.
    name: &'static str,
}

pub(super) const DIMENSIONS: [Dimension; 3] = [
    Dimension {
        word: "gpu",
        resource: GPU_RESOURCE,
        annotation: annotations::DEFAULT_GPUS,
        unit: 1,
        name: "GPUs",
    },
    Dimension {
        word: "memory",
        resource: "memory",
        annotation: annotations::DEFAULT_MEMORY,
        unit: 1 << 20,
        name: "MiB of memory",
    },
    Dimension {
        word: "cpu",
        resource: "cpu",
        annotation: annotations::DEFAULT_VCPUS,
        unit: 1,
        name: "virtual CPUs",
    },
];

/// Kata reads the annotations as signed 32-bit numbers.
const MOST: u64 = i32::MAX.unsigned_abs() as u64;
/// A list as it is written here: names and quantities, none of which has quotes or braces.
const LIST: &str = r#"\\{(\"[^\"{}]*\":\"[0-9.eEinumkKMGTP+-]+\",?)*\\}"#;
/// Whole numbers next to a quantity `q`, one of which it is if it is whole. CEL tells a quantity as a whole number only for
/// some notations of it, but compares all of them exactly.
const NEAR: &str =
    "[-1, 0, 1].map(d, int(q.asApproximateFloat()) + d).filter(n, quantity(string(n)).compareTo(q) == 0)";
/// Thousandths next to a quantity `q`, one of which it is: what is finer the API server has rounded up.
const NEAR_THOUSANDTHS: &str = r#"[-1, 0, 1, 2].map(d, int(q.asApproximateFloat() * 1000.0) + d).filter(n, quantity(string(n) + "m").compareTo(q) == 0)"#;

fn named(name: &str, expression: String) -> (String, String) {
    (name.to_owned(), expression)
}

/// An entry's text within a longer one, for a regular expression of CEL.
fn entry_pattern() -> String {
    format!(r#"\\{{(\"limits\":{LIST})?,?(\"requests\":{LIST})?\\}}"#)
}

/// An entry read out of `text`, an expression that gives its whole text or nothing.
fn entry_of(text: &str) -> String {
    format!(
        r#"["limits", "requests"].map(kind, {text}.find("\"" + kind + "\":{LIST}").replace("\"" + kind + "\":", ""))"#
    )
}

/// The containers and their own resources, now or as they were before.
pub(super) fn variables(vm: &str) -> Vec<(String, String)> {
    let own = |of: &str, kind: &str| {
        format!(
            "has({of}.resources) && has({of}.resources.{kind}) ? {of}.resources.{kind}.transformMap(k, v, k != {vm}, string(v)) : {{}}"
        )
    };
    let print = |map: &str| {
        format!(
            r#"size({map}) == 0 ? "" : "{{" + {map}.transformList(k, v, "\"" + k + "\":\"" + v + "\"").sort().join(",") + "}}""#
        )
    };
    let entry = entry_pattern();
    let before = format!(r#"variables.keptContainers.find("\"" + variables.all[i].name + "\":{entry}")"#);
    let pod_before =
        format!(r#"variables.kept.replace(variables.keptContainers, "").find("\"pod\":{entry}")"#);
    let kept = annotations::RESOURCES;
    vec![
        named(
            "annotations",
            "has(object.metadata.annotations) ? object.metadata.annotations : {}".to_owned(),
        ),
        named(
            "kept",
            format!(r#""{kept}" in variables.annotations ? variables.annotations["{kept}"] : """#),
        ),
        named(
            "keptContainers",
            r#"variables.kept.find("^\\{\"containers\":\\{.*?\\}\\}\\}")"#.to_owned(),
        ),
        named(
            "all",
            "object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])".to_owned(),
        ),
        named("first", "size(object.spec.containers)".to_owned()),
        named(
            "fields",
            r#"variables.all.transformList(i, c, i < variables.first ? "spec.containers[" + string(i) + "].resources" : "spec.initContainers[" + string(i - variables.first) + "].resources")"#
                .to_owned(),
        ),
        named(
            "sidecars",
            r#"variables.all.map(c, has(c.restartPolicy) && c.restartPolicy == "Always")"#.to_owned(),
        ),
        named(
            "own",
            format!("variables.all.map(c, [{}, {}])", own("c", "limits"), own("c", "requests")),
        ),
        named(
            "entries",
            format!(
                "variables.own.transformList(i, own, size(own[0]) + size(own[1]) > 0 ? own.map(m, {}) : {})",
                print("m"),
                entry_of(&before)
            ),
        ),
        named(
            "podOwn",
            format!("[{}, {}]", own("object.spec", "limits"), own("object.spec", "requests")),
        ),
        named(
            "podEntry",
            format!(
                "size(variables.podOwn[0]) + size(variables.podOwn[1]) > 0 ? variables.podOwn.map(m, {}) : {}",
                print("m"),
                entry_of(&pod_before)
            ),
        ),
    ]
}

/// How much of one dimension the VM has: exact, in thousandths; and whether that is too much to be computed at all.
pub(super) fn dimension_variables(dimension: &Dimension) -> Vec<(String, String)> {
    let Dimension {
        word,
        resource,
        annotation,
        unit,
        ..
    } = dimension;
    let find = format!(
        r#"filter(t, t.contains("\"{resource}\":\"")).map(t, t.find("\"{}\":\"[^\"]*\"").replace("\"{resource}\":\"", "").replace("\"", ""))"#,
        resource.replace('.', r"\\.")
    );
    // Of more bytes than are exact in thousandths, parts of a byte are a byte.
    let thousandths = |texts: &str| {
        format!(
            "{texts}.map(t, quantity(t)).map(q, ({NEAR}.map(n, n * 1000) + {NEAR_THOUSANDTHS} + \
             [(int(q.asApproximateFloat()) + 1) * 1000])[0])"
        )
    };
    let end = annotation
        .strip_prefix(annotations::HYPERVISOR)
        .unwrap_or(annotation);
    let per_unit = unit * 1000;
    let v = |name: &str| format!("variables.{word}{name}");
    vec![
        // The limit, else the request, else nothing.
        named(
            &format!("{word}Texts"),
            format!(r#"variables.entries.map(e, (e.{find} + ["0"])[0])"#),
        ),
        named(
            &format!("{word}PodText"),
            format!(r#"(variables.podEntry.{find} + [""])[0]"#),
        ),
        named(
            &format!("{word}About"),
            format!(
                r#"{pod} != "" ? quantity({pod}).asApproximateFloat() : {texts}.map(t, quantity(t).asApproximateFloat()).sum()"#,
                pod = v("PodText"),
                texts = v("Texts")
            ),
        ),
        named(&format!("{word}Amounts"), thousandths(&v("Texts"))),
        named(
            &format!("{word}Running"),
            format!(
                "([0] + {amounts}.transformList(i, n, i < variables.first || variables.sidecars[i], n)).sum()",
                amounts = v("Amounts")
            ),
        ),
        named(
            &format!("{word}Starting"),
            format!(
                "{amounts}.transformList(i, n, i >= variables.first, n + ([0] + {amounts}.transformList(j, m, j >= \
                 variables.first && j < i && variables.sidecars[j], m)).sum())",
                amounts = v("Amounts")
            ),
        ),
        named(
            &format!("{word}Needed"),
            format!(
                r#"{pod} != "" ? {of_pod}[0] : ([{running}] + {starting}).max()"#,
                pod = v("PodText"),
                of_pod = thousandths(&format!("[{}]", v("PodText"))),
                running = v("Running"),
                starting = v("Starting")
            ),
        ),
        // Far beyond what any machine has, thousandths would no longer be whole numbers of 64 bits.
        named(
            &format!("{word}Whole"),
            format!(
                "{about} > {far}.0 ? int({about} / {unit}.0) : ({needed} + {round}) / {per_unit}",
                about = v("About"),
                far = MOST * 4 * unit,
                needed = v("Needed"),
                round = per_unit - 1
            ),
        ),
        named(
            &format!("{word}Before"),
            format!(r#"variables.kept.find("\"{end}\":[0-9]+").replace("\"{end}\":", "")"#),
        ),
        // Whether its annotation is ours to write, and not the user's.
        named(
            &format!("{word}Set"),
            format!(
                r#"{whole} > 0 && !("{annotation}" in variables.annotations && variables.annotations["{annotation}"] != {before})"#,
                whole = v("Whole"),
                before = v("Before")
            ),
        ),
    ]
}

/// Why the pod is refused, or an empty text; and the annotation's new value.
pub(super) fn conclusions() -> Vec<(String, String)> {
    let entry = entry_pattern();
    let whole = format!(
        r#"^\\{{(\"containers\":\\{{(\"[^\"{{}}]*\":{entry},?)*\\}})?,?(\"pod\":{entry})?,?(\"vm\":\\{{(\"[a-z_]*\":[0-9]+,?)*\\}})?\\}}$"#
    );
    let resources = annotations::RESOURCES;
    let unreadable = format!(
        r#"variables.kept != "" && !variables.kept.matches("{whole}") ? ["metadata.annotations: annotation {resources} is not valid; remove it, it is written as the pod is created"] : []"#
    );
    let of_list = |own: &str, field: &str, number: usize, kind: &str| {
        let place = format!(r#"{field} + ".{kind}[" + k + "]: ""#);
        let pieces = r#"(k.contains("/") || k.startsWith("hugepages-"))"#;
        let limit = format!("{own}[0]");
        let above = if kind == "requests" {
            format!(
                r#" : {pieces} && !(k in {limit} && quantity({limit}[k]).compareTo(quantity(v)) == 0) ? {place} + "must be equal to the " + k + " limit, because " + k + " cannot be overcommitted" : k in {limit} && quantity(v).isGreaterThan(quantity({limit}[k])) ? {place} + "must be less than or equal to the " + k + " limit" : """#
            )
        } else {
            r#" : """#.to_owned()
        };
        format!(
            r#"{own}[{number}].transformList(k, v, !k.matches("^(cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9.]+|[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)$") ? {place} + "\"" + k + "\" is neither cpu, memory, ephemeral-storage or hugepages-SIZE nor a name with a domain" : quantity(v).isLessThan(quantity("0")) ? {place} + "must be greater than or equal to 0" : {pieces} && size([quantity(v)].map(q, {NEAR})[0]) == 0 ? {place} + "must be a whole number"{above})"#
        )
    };
    let of_containers = |number, kind| {
        let one = of_list("own", "variables.fields[i]", number, kind);
        format!("variables.own.transformList(i, own, {one}).flatten()")
    };
    let of_pod = |number, kind| of_list("variables.podOwn", r#""spec.resources""#, number, kind);
    let wrong = [
        of_containers(0, "limits"),
        of_containers(1, "requests"),
        of_pod(0, "limits"),
        of_pod(1, "requests"),
    ]
    .join(" + ");
    let too_much = DIMENSIONS.each_ref().map(|dimension| {
        let Dimension { word, name, .. } = dimension;
        format!(
            r#"variables.{word}Whole > {MOST} ? "the pod's containers need " + string(variables.{word}Whole) + " {name} together, more than any virtual machine has""#
        )
    });
    let entry_text = |entry: &str| {
        format!(
            r#""{{" + ({entry}[0] != "" ? ["\"limits\":" + {entry}[0]] : []).map(t, t).join(",") + ({entry}[0] != "" && {entry}[1] != "" ? "," : "") + ({entry}[1] != "" ? "\"requests\":" + {entry}[1] : "") + "}}""#
        )
    };
    let vm = DIMENSIONS.each_ref().map(|dimension| {
        let Dimension { word, annotation, .. } = dimension;
        let end = annotation
            .strip_prefix(annotations::HYPERVISOR)
            .unwrap_or(annotation);
        format!(r#"(variables.{word}Set ? ["\"{end}\":" + string(variables.{word}Whole)] : [])"#)
    });
    vec![
        named(
            "wrong",
            format!("({unreadable}) + ({wrong}).filter(t, t != \"\")"),
        ),
        named(
            "refusal",
            format!(
                r#"size(variables.wrong) > 0 ? variables.wrong[0] : {} : """#,
                too_much.join(" : ")
            ),
        ),
        named(
            "containerTexts",
            format!(
                r#"variables.entries.transformList(i, e, e[0] != "" || e[1] != "", "\"" + variables.all[i].name + "\":" + {}).sort()"#,
                entry_text("e")
            ),
        ),
        named("vmTexts", vm.join(" + ")),
        named(
            "volumeTexts",
            r#"(has(object.spec.volumes) ? object.spec.volumes : []).filter(v, has(v.emptyDir) && has(v.emptyDir.sizeLimit) && !(has(v.emptyDir.medium) && v.emptyDir.medium != "")).map(v, "\"" + v.name + "\":\"" + string(v.emptyDir.sizeLimit) + "\"").sort()"#
                .to_owned(),
        ),
        named(
            "resources",
            format!(
                r#"((size(variables.containerTexts) > 0 ? ["\"containers\":{{" + variables.containerTexts.join(",") + "}}"] : []) + (variables.podEntry[0] != "" || variables.podEntry[1] != "" ? ["\"pod\":" + {}] : []) + (size(variables.vmTexts) > 0 ? ["\"vm\":{{" + variables.vmTexts.join(",") + "}}"] : [])).join(",")"#,
                entry_text("variables.podEntry")
            ),
        ),
    ]
}

/// The first mutation changes nothing. A refusal makes it an error, of a key that is not in a map: the API server tells the
/// key, after the expression, which is short for that reason.
pub(super) const REFUSAL: &str = r#"{"": []}[variables.refusal].map(none, JSONPatch{})"#;

/// All changes of a pod.
pub(super) fn patches(vm: &str) -> String {
    let one_vm = format!(r#"{{"limits": {{{vm}: "1"}}, "requests": {{{vm}: "1"}}}}"#);
    let has_any = "has(c.resources) && (has(c.resources.limits) || has(c.resources.requests) || has(c.resources.claims))";
    let is_one_vm = |kind: &str| {
        format!(
            "has(c.resources.{kind}) && size(c.resources.{kind}) == 1 && {vm} in c.resources.{kind} && string(c.resources.{kind}[{vm}]) == \"1\""
        )
    };
    let only_one_vm = format!(
        "has(c.resources) && {} && {} && !has(c.resources.claims)",
        is_one_vm("limits"),
        is_one_vm("requests")
    );
    let emptied = |kind: &str, from: &str| {
        format!(
            r#"{from}.transformList(i, c, {first}{has_any}, JSONPatch{{op: "add", path: "/spec/{kind}/" + string(i) + "/resources", value: {{}}}})"#,
            first = if kind == "containers" { "i > 0 && " } else { "" }
        )
    };
    let annotate = |key: &str, value: &str, condition: &str| {
        format!(
            r#"({condition} ? [JSONPatch{{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("{key}"), value: {value}}}] : [])"#
        )
    };
    let sizes = DIMENSIONS.each_ref().map(|dimension| {
        let Dimension { word, annotation, .. } = dimension;
        annotate(
            annotation,
            &format!("string(variables.{word}Whole)"),
            &format!("variables.{word}Set"),
        )
    });
    let volumes = r#""{" + variables.volumeTexts.join(",") + "}""#;
    let resources = r#"("{" + variables.resources + "}")"#;
    let parts = [
        format!(
            r#"object.spec.containers.transformList(i, c, i == 0 && !({only_one_vm}), JSONPatch{{op: "add", path: "/spec/containers/0/resources", value: {one_vm}}})"#
        ),
        emptied("containers", "object.spec.containers"),
        emptied("initContainers", "(has(object.spec.initContainers) ? object.spec.initContainers : [])"),
        r#"(has(object.spec.resources) ? [JSONPatch{op: "remove", path: "/spec/resources"}] : [])"#.to_owned(),
        r#"(!has(object.metadata.annotations) && (variables.resources != "" || size(variables.volumeTexts) > 0) ? [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}] : [])"#.to_owned(),
        annotate(
            annotations::RESOURCES,
            resources,
            &format!(r#"{resources} != variables.kept && (variables.resources != "" || variables.kept != "")"#),
        ),
        annotate(annotations::VOLUMES, volumes, "size(variables.volumeTexts) > 0"),
        sizes.join(" + "),
    ];
    parts.join(" + ")
}
