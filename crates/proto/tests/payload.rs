//! The boot payload: what the adaptor writes is what the guest reads, and nothing of it shows.
#![allow(clippy::unwrap_used)] // A failure here fails the test.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use peerpods_proto::payload::{
    BootPayload, ForwarderConfig, GuestSettings, InstanceMetadata, JoinSecret, Neighbor, PARSED_LIMIT,
    PayloadError, PodNetwork, RENDERED_LIMIT, Route, ScratchEncryption, SecretText, TunnelType, UserData,
    WarmPayload,
};
use proptest::prelude::*;

/// What the reference adaptor sends: the older file name first, Go's nulls and empty texts, files that we do not use.
const STOCK: &str = r#"#cloud-config
write_files:
- path: /run/peerpod/auth.json
  content: |
    {"auths":{}}
- path: /run/peerpod/daemon.json
  content: |
    {
      "pod-network": {
        "podip": "10.244.0.5/24", "pod-hw-addr": "0a:58:0a:f4:00:05", "interface": "eth0",
        "worker-node-ip": "192.168.100.1/24", "tunnel-type": "vxlan",
        "routes": [
          {"dst": "", "gw": "10.244.0.1", "dev": "eth0", "protocol": "boot", "scope": "global"},
          {"dst": "10.244.0.0/24", "gw": "", "dev": "eth0"}
        ],
        "neighbors": null, "mtu": 1450, "index": 3, "vxlan-port": 4789, "vxlan-id": 555003, "dedicated": false,
        "external-net-via-pod-vm": false
      },
      "pod-namespace": "shop", "pod-name": "web",
      "tls-server-key": "the server's key", "tls-server-cert": "the server's certificate", "tls-client-ca": "the authority"
    }
- path: /run/peerpod/initdata
  content: H4sIAAAAAAAA
"#;

fn payload() -> BootPayload {
    BootPayload {
        forwarder: ForwarderConfig {
            pod_network: PodNetwork {
                pod_ip: "10.244.0.5/24".parse().unwrap(),
                further_pod_ips: Vec::new(),
                pod_hw_addr: "0a:58:0a:f4:00:05".to_owned(),
                interface: "eth0".to_owned(),
                worker_node_ip: "192.168.100.1/24".parse().unwrap(),
                tunnel_type: TunnelType::Vxlan,
                routes: vec![Route {
                    dst: None,
                    gw: Some("10.244.0.1".parse().unwrap()),
                    dev: "eth0".to_owned(),
                    protocol: None,
                    scope: None,
                }],
                neighbors: Vec::new(),
                mtu: 1450,
                index: 0,
                vxlan_port: 4789,
                vxlan_id: 555_000,
                dedicated: false,
                external_net_via_pod_vm: false,
            },
            pod_namespace: "shop".to_owned(),
            pod_name: "web".to_owned(),
            tls_client_ca: Some("authority\n".to_owned()),
            tls_server_key: None,
            tls_server_cert: None,
        },
        settings: Some(GuestSettings {
            join_secret: JoinSecret::new([0xab; 32]),
            lease: Duration::from_secs(3600),
            insecure_registries: vec!["registry:5000".to_owned()],
            scratch_encryption: ScratchEncryption::None,
            instance_metadata: InstanceMetadata::Refuse,
        }),
    }
}

#[test]
fn a_vm_without_a_pod_is_told_whom_to_wait_for_and_nothing_else() {
    let warm = WarmPayload {
        client_ca: "authority\n".to_owned(),
        join_secret: JoinSecret::new([0xcd; 32]),
        lease: Duration::from_secs(600),
        scratch_encryption: ScratchEncryption::Ephemeral,
    };
    let rendered = warm.render().unwrap();
    assert_eq!(
        UserData::parse(rendered.as_bytes()).unwrap(),
        UserData::Warm(warm)
    );
    assert!(!rendered.contains("apf.json"));
    let refused = BootPayload::parse(rendered.as_bytes()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the boot payload has no /run/peerpod/apf.json",
        "it is no pod's"
    );
}

#[test]
fn a_vm_of_a_pod_is_told_that_it_is_one() {
    for document in [payload().render().unwrap().as_str(), STOCK] {
        let parsed = UserData::parse(document.as_bytes()).unwrap();
        assert!(matches!(parsed, UserData::Pod(_)), "{parsed:?}");
    }
}

/// A document with one file, as the guest's metadata service would hand it over.
fn document(path: &str, attributes: &str, content: &str) -> String {
    format!("#cloud-config\nwrite_files:\n- path: {path}\n{attributes}  content: {content}\n")
}

#[test]
fn what_is_rendered_is_the_format_of_today_s_peer_pods() {
    let expected = concat!(
        "#cloud-config\n",
        "write_files:\n",
        "- path: /run/peerpod/apf.json\n",
        "  content: |\n",
        r#"    {"pod-network":{"podip":"10.244.0.5/24","pod-hw-addr":"0a:58:0a:f4:00:05","interface":"eth0","#,
        r#""worker-node-ip":"192.168.100.1/24","tunnel-type":"vxlan","#,
        r#""routes":[{"gw":"10.244.0.1","dev":"eth0"}],"neighbors":[],"mtu":1450,"index":0,"#,
        r#""vxlan-port":4789,"vxlan-id":555000,"dedicated":false,"external-net-via-pod-vm":false},"#,
        r#""pod-namespace":"shop","pod-name":"web","tls-client-ca":"authority\n"}"#,
        "\n",
        "- path: /run/peerpod/peerpods.json\n",
        "  content: |\n",
        r#"    {"join_secret":"abababababababababababababababababababababababababababababababab","#,
        r#""lease_seconds":3600,"insecure_registries":["registry:5000"]}"#,
        "\n",
    );
    assert_eq!(payload().render().unwrap().as_str(), expected);
}

#[test]
fn a_stock_adaptor_s_document_is_understood() {
    let read = BootPayload::parse(STOCK.as_bytes()).unwrap();
    assert_eq!(read.settings, None);
    let ForwarderConfig {
        pod_network,
        pod_namespace,
        pod_name,
        ..
    } = &read.forwarder;
    assert_eq!((pod_namespace.as_str(), pod_name.as_str()), ("shop", "web"));
    assert_eq!(pod_network.vxlan_id, 555_003);
    assert!(pod_network.neighbors.is_empty());
    let [default, link] = pod_network.routes.as_slice() else {
        panic!("two routes, not {:?}", pod_network.routes);
    };
    assert_eq!(
        (default.dst, default.gw),
        (None, Some("10.244.0.1".parse().unwrap()))
    );
    assert_eq!(
        (link.dst, link.gw),
        (Some("10.244.0.0/24".parse().unwrap()), None)
    );
    let key = read.forwarder.tls_server_key.as_ref().map(SecretText::expose);
    assert_eq!(key, Some("the server's key"));
}

#[test]
fn the_newer_file_counts_when_both_are_there() {
    let newer = payload().render().unwrap();
    let (_, newer) = newer.split_once("write_files:\n").unwrap();
    let both = format!("{STOCK}{newer}");
    assert_eq!(BootPayload::parse(both.as_bytes()).unwrap(), payload());
}

#[test]
fn a_file_s_content_may_be_base64() {
    let json = serde_json::to_string(&payload().forwarder).unwrap();
    for encoding in ["b64", "base64"] {
        let attributes = format!("  encoding: {encoding}\n");
        let text = document("/run/peerpod/apf.json", &attributes, &STANDARD.encode(&json));
        assert_eq!(
            BootPayload::parse(text.as_bytes()).unwrap().forwarder,
            payload().forwarder
        );
    }
}

#[test]
fn an_error_names_the_file_and_what_is_wrong_with_it() {
    let file = "/run/peerpod/apf.json";
    let cases = [
        (
            String::from("#cloud-config\n"),
            "the boot payload has no /run/peerpod/apf.json",
        ),
        (
            document("/etc/motd", "", "hello"),
            "the boot payload has no /run/peerpod/apf.json",
        ),
        (
            document(file, "  encoding: gz\n", "hello"),
            "/run/peerpod/apf.json: the content cannot be decoded: encoding \"gz\" is not supported",
        ),
        (
            document(file, "", "'{}'"),
            "/run/peerpod/apf.json: missing field `pod-network`",
        ),
    ];
    for (text, expected) in cases {
        let error = BootPayload::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let wrong = STOCK.replace("10.244.0.5/24", "10.244.0.5/99");
    let error = BootPayload::parse(wrong.as_bytes()).unwrap_err().to_string();
    assert!(
        error.contains(r#""10.244.0.5/99" is no address with a prefix length"#),
        "{error}"
    );
}

#[test]
fn settings_that_the_guest_does_not_know_are_refused() {
    let text = payload()
        .render()
        .unwrap()
        .replace("lease_seconds", "leash_seconds");
    let error = BootPayload::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(
        error.starts_with("/run/peerpod/peerpods.json: unknown field `leash_seconds`"),
        "{error}"
    );
}

#[test]
fn a_payload_that_no_cloud_would_take_is_not_rendered() {
    let mut large = payload();
    large.forwarder.tls_client_ca = Some("x".repeat(RENDERED_LIMIT));
    assert!(matches!(large.render(), Err(PayloadError::TooLarge(bytes)) if bytes > RENDERED_LIMIT));
}

#[test]
fn a_payload_longer_than_the_limit_is_not_read() {
    let padding = "#".repeat(PARSED_LIMIT + 1 - STOCK.len());
    let fits = format!("{STOCK}{}", &padding[1..]);
    assert!(BootPayload::parse(fits.as_bytes()).is_ok());
    let longer = format!("{STOCK}{padding}");
    assert!(matches!(
        BootPayload::parse(longer.as_bytes()),
        Err(PayloadError::TooLong(_))
    ));
}

#[test]
fn secrets_show_neither_in_debug_nor_in_errors() {
    let mut stock = payload();
    stock.forwarder.tls_server_key = Some(SecretText::new("hush".to_owned()));
    let shown = format!("{stock:?}");
    assert!(
        !shown.contains("hush") && !shown.contains("abab") && !shown.contains("171"),
        "{shown}"
    );

    let spoilt = payload().render().unwrap().replace("abab", "hush");
    let error = BootPayload::parse(spoilt.as_bytes()).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains("the join secret is not 64 hexadecimal digits"),
        "{shown}"
    );
    assert!(!shown.contains("hush"), "{shown}");

    let broken = format!("{}  path: [", payload().render().unwrap().as_str());
    let error = BootPayload::parse(broken.as_bytes()).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        shown.starts_with("the user data is no cloud-config document: see its line 9, column 3"),
        "{shown}"
    );
    assert!(!shown.contains("abab"), "{shown}");
}

prop_compose! {
    fn any_network()(
        address in any::<u32>(), prefix in 0_u8..=32, further in proptest::collection::vec(any::<u128>(), 0..2),
        gateway in proptest::option::of(any::<u32>()), mac in "([0-9a-f]{2}:){5}[0-9a-f]{2}", interface in "[a-z0-9]{1,15}",
        mtu in any::<u32>(), index in any::<u32>(), vxlan_port in any::<u16>(), vxlan_id in any::<u32>(),
        dedicated in any::<bool>(), external_net_via_pod_vm in any::<bool>(),
    ) -> PodNetwork {
        let network = format!("{}/{prefix}", std::net::Ipv4Addr::from(address)).parse().unwrap();
        PodNetwork {
            pod_ip: network,
            further_pod_ips: further
                .into_iter()
                .map(|address| format!("{}/64", std::net::Ipv6Addr::from(address)).parse().unwrap())
                .collect(),
            pod_hw_addr: mac.clone(),
            interface: interface.clone(),
            worker_node_ip: network,
            tunnel_type: TunnelType::Vxlan,
            routes: vec![Route {
                dst: gateway.is_none().then_some(network),
                gw: gateway.map(|address| std::net::Ipv4Addr::from(address).into()),
                dev: interface.clone(),
                protocol: dedicated.then(|| "boot".to_owned()),
                scope: None,
            }],
            neighbors: vec![Neighbor {
                ip: network.address,
                hw_addr: mac,
                dev: interface,
                state: "permanent".to_owned(),
            }],
            mtu,
            index,
            vxlan_port,
            vxlan_id,
            dedicated,
            external_net_via_pod_vm,
        }
    }
}

proptest! {
    #[test]
    fn what_is_rendered_is_read_back(
        pod_network in any_network(),
        secret in any::<[u8; 32]>(),
        lease in any::<u32>(),
        names in ("[a-z0-9.-]{1,253}", "[a-z0-9-]{1,63}"),
        pem in proptest::option::of("[ -~\n]{0,2000}"),
        registries in proptest::option::of(proptest::collection::vec("[a-z0-9.:]{1,40}", 0..4)),
        choices in (
            prop_oneof![Just(ScratchEncryption::None), Just(ScratchEncryption::Ephemeral)],
            prop_oneof![Just(InstanceMetadata::Refuse), Just(InstanceMetadata::Allow)],
        ),
    ) {
        let written = BootPayload {
            forwarder: ForwarderConfig {
                pod_network,
                pod_name: names.0,
                pod_namespace: names.1,
                tls_client_ca: pem.clone(),
                tls_server_key: pem.clone().map(SecretText::new),
                tls_server_cert: pem,
            },
            settings: registries.map(|insecure_registries| GuestSettings {
                join_secret: JoinSecret::new(secret),
                lease: Duration::from_secs(lease.into()),
                insecure_registries,
                scratch_encryption: choices.0,
                instance_metadata: choices.1,
            }),
        };
        let text = written.render().unwrap();
        prop_assert_eq!(BootPayload::parse(text.as_bytes()).unwrap(), written);
    }
}
