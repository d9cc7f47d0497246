//! `deploy/aws/prerequisites.yaml`, deployed as an administrator does.

use std::fmt::Write;

use peerpods_aws::policy::policy;
use peerpods_image::publish;
use peerpods_provider_aws::ACTIONS;
use peerpods_testkit::{
    ec2::{Moto, REGION},
    http::{HttpRequest, forward},
};
use serde_json::{Value, json};

const TEMPLATE: &str = include_str!("../../../../deploy/aws/prerequisites.yaml");

fn template() -> Value {
    serde_saphyr::from_str(TEMPLATE).unwrap()
}

#[test]
fn the_adaptor_may_do_what_it_calls_and_nothing_else() {
    let template = template();
    let mut document = template["Resources"]["AdaptorPolicy"]["Properties"]["PolicyDocument"].clone();
    assert_eq!(template["Parameters"]["ClusterId"]["Default"], "*");
    replace(&mut document, &json!({"Ref": "ClusterId"}), &json!("*"));
    assert_eq!(
        document,
        policy(ACTIONS, &[]),
        "deploy/aws/prerequisites.yaml is not docs/aws/iam-policy.json"
    );
}

#[test]
fn what_publishes_the_image_may_do_what_it_calls_and_nothing_else() {
    let publisher = &template()["Resources"]["PublisherPolicy"]["Properties"];
    assert_eq!(
        publisher["PolicyDocument"],
        policy(publish::ACTIONS, publish::EBS_ACTIONS),
        "deploy/aws/prerequisites.yaml is not docs/aws/image-policy.json"
    );
    assert!(
        publisher["Roles"].is_null(),
        "nodes do not decide what all VMs are"
    );
}

#[test]
fn each_service_account_has_the_policy_of_its_own_work() {
    let resources = &template()["Resources"];
    for (role, policy) in [
        ("AdaptorRole", "AdaptorPolicy"),
        ("PublisherRole", "PublisherPolicy"),
    ] {
        let properties = &resources[role]["Properties"];
        assert_eq!(
            properties["ManagedPolicyArns"],
            json!([{"Ref": policy}]),
            "{role}"
        );
        let trusted = &properties["AssumeRolePolicyDocument"]["Statement"][0]["Principal"];
        assert_eq!(*trusted, json!({"Service": "pods.eks.amazonaws.com"}), "{role}");
    }
}

fn replace(value: &mut Value, old: &Value, new: &Value) {
    if value == old {
        *value = new.clone();
    } else if let Value::Object(members) = value {
        members.values_mut().for_each(|member| replace(member, old, new));
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(|item| replace(item, old, new));
    }
}

/// Asks AWS by its query API: the answer, which is XML.
fn ask(moto: &Moto, service: &str, parameters: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in parameters {
        write!(body, "&{name}=").unwrap();
        for byte in value.bytes() {
            write!(body, "%{byte:02X}").unwrap();
        }
    }
    let credential = format!("Credential=AKIDEXAMPLE/20260101/{REGION}/{service}/aws4_request");
    let request = HttpRequest {
        method: "POST".to_owned(),
        target: "/".to_owned(),
        headers: vec![
            ("host".to_owned(), format!("{service}.{REGION}.amazonaws.com")),
            (
                "content-type".to_owned(),
                "application/x-www-form-urlencoded".to_owned(),
            ),
            (
                "authorization".to_owned(),
                format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"),
            ),
        ],
        body: body.as_bytes()[1..].to_vec(),
        peer: None,
    };
    let answer = forward(&request, moto.address()).unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{service} {parameters:?}: {text}");
    text
}

/// What is within the first element of this name after `after`.
fn within<'a>(xml: &'a str, after: &str, name: &str) -> &'a str {
    let (_, rest) = xml
        .split_once(after)
        .unwrap_or_else(|| panic!("{after} is not in {xml}"));
    let (_, rest) = rest.split_once(&format!("<{name}>")).unwrap();
    rest.split_once(&format!("</{name}>")).unwrap().0
}

#[test]
fn one_stack_makes_what_nodes_and_vms_need() {
    let Some(moto) = Moto::start() else { return };
    let ec2 = |parameters: &[(&str, &str)]| ask(&moto, "ec2", parameters);
    let version = ("Version", "2016-11-15");
    let subnets = ec2(&[("Action", "DescribeSubnets"), version]);
    let (vpc, subnet) = (within(&subnets, "", "vpcId"), within(&subnets, "", "subnetId"));
    let nodes = ec2(&[
        ("Action", "CreateSecurityGroup"),
        version,
        ("GroupName", "nodes"),
        ("GroupDescription", "nodes"),
        ("VpcId", vpc),
    ]);
    let nodes = within(&nodes, "", "groupId");
    let role = [
        ("Action", "CreateRole"),
        ("Version", "2010-05-08"),
        ("RoleName", "nodes"),
        (
            "AssumeRolePolicyDocument",
            r#"{"Version": "2012-10-17", "Statement": []}"#,
        ),
    ];
    ask(&moto, "iam", &role);

    let stack = ("StackName", "peerpods");
    let version_of_stacks = ("Version", "2010-05-15");
    let parameters = [
        ("VpcId", vpc),
        ("SubnetIds", subnet),
        ("NodeSecurityGroupId", nodes),
        ("NodeRoleName", "nodes"),
        ("PodIdentity", "yes"),
        ("ClusterId", "cluster-1"),
        ("VxlanPort", "8472"),
    ];
    let names: Vec<(String, String)> = (1..=parameters.len())
        .map(|index| {
            let member = format!("Parameters.member.{index}.Parameter");
            (format!("{member}Key"), format!("{member}Value"))
        })
        .collect();
    let mut request = vec![
        ("Action", "CreateStack"),
        version_of_stacks,
        stack,
        ("TemplateBody", TEMPLATE),
        ("Capabilities.member.1", "CAPABILITY_IAM"),
    ];
    for ((key, value), parameter) in names.iter().zip(parameters) {
        request.extend([(key.as_str(), parameter.0), (value.as_str(), parameter.1)]);
    }
    ask(&moto, "cloudformation", &request);
    let described = [("Action", "DescribeStacks"), version_of_stacks, stack];
    let described = ask(&moto, "cloudformation", &described);
    assert_eq!(within(&described, "", "StackStatus"), "CREATE_COMPLETE");
    let output = |name: &str| {
        within(
            &described,
            &format!("<OutputKey>{name}</OutputKey>"),
            "OutputValue",
        )
    };
    assert_eq!(
        (output("SubnetIds"), output("VpcId"), output("Region")),
        (subnet, vpc, REGION)
    );
    for role in ["RoleArn", "PublisherRoleArn"] {
        assert!(output(role).contains(":role/"), "{role}: {}", output(role));
    }

    // Nodes reach VMs by both ports, VMs reach nodes by one, and nobody else reaches either.
    let rules = |group: &str| {
        let xml = ec2(&[
            ("Action", "DescribeSecurityGroups"),
            version,
            ("GroupId.1", group),
        ]);
        let rules = within(&xml, "", "ipPermissions").to_owned();
        let rule = |rule: &str| {
            let of = |name| within(rule, "", name).to_owned();
            assert!(!rule.contains("cidrIp"), "{rule}");
            format!("{} {} from {}", of("ipProtocol"), of("fromPort"), of("groupId"))
        };
        let mut rules: Vec<String> = rules
            .split("<ipProtocol>")
            .skip(1)
            .map(|text| rule(&format!("<ipProtocol>{text}")))
            .collect();
        rules.sort();
        rules
    };
    let vms = output("SecurityGroupId");
    assert_eq!(
        rules(vms),
        [
            format!("tcp 15150 from {nodes}"),
            format!("udp 8472 from {nodes}")
        ]
    );
    assert_eq!(rules(nodes), [format!("udp 8472 from {vms}")]);

    // Nodes launch, and do not publish.
    let attached = [
        ("Action", "ListAttachedRolePolicies"),
        ("Version", "2010-05-08"),
        ("RoleName", "nodes"),
    ];
    let attached = ask(&moto, "iam", &attached);
    assert_eq!(within(&attached, "", "PolicyArn"), output("PolicyArn"));
    assert!(!attached.contains(output("PublisherPolicyArn")), "{attached}");
    let version = [
        ("Action", "GetPolicyVersion"),
        ("Version", "2010-05-08"),
        ("PolicyArn", output("PolicyArn")),
        ("VersionId", "v1"),
    ];
    let kept = ask(&moto, "iam", &version);
    assert!(kept.contains("cluster-1"), "{kept}");
}
