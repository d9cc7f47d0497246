//! Certificates of the cluster, all made anew for every bed.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::testbed::layout::{NODE, NODE_ADDRESS, State};

/// The API server, as every client in the bed reaches it.
const SERVER: &str = "https://127.0.0.1:6443";

/// A certificate: its files' name, the organization and common name of its subject, and what it serves, if it serves.
struct Leaf<'a> {
    file: &'a str,
    organization: Option<&'a str>,
    name: &'a str,
    serves: &'a [&'a str],
}

/// Who has a kubeconfig.
const USERS: [&str; 5] = ["admin", "scheduler", "proxy", "kubelet", "adaptor"];

/// Writes keys, certificates and kubeconfigs to `pki` in the state folder.
pub(super) fn prepare(state: &State) -> Result<()> {
    let folder = state.file("pki");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (key, params) = (KeyPair::generate()?, authority()?);
    let certificate = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    write(&folder, "ca.crt", &certificate.pem())?;

    let node = format!("system:node:{NODE}");
    let server_names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "10.96.0.1",
        NODE_ADDRESS,
    ];
    let masters = Some("system:masters");
    let nodes = Some("system:nodes");
    let leaves = [
        Leaf {
            file: "apiserver",
            organization: None,
            name: "kube-apiserver",
            serves: &server_names,
        },
        Leaf {
            file: "kubelet-serving",
            organization: nodes,
            name: &node,
            serves: &[NODE, NODE_ADDRESS, "127.0.0.1"],
        },
        Leaf {
            file: "apiserver-kubelet-client",
            organization: masters,
            name: "kube-apiserver",
            serves: &[],
        },
        Leaf {
            file: "admin",
            organization: masters,
            name: "admin",
            serves: &[],
        },
        Leaf {
            file: "scheduler",
            organization: None,
            name: "system:kube-scheduler",
            serves: &[],
        },
        Leaf {
            file: "proxy",
            organization: None,
            name: "system:kube-proxy",
            serves: &[],
        },
        Leaf {
            file: "adaptor",
            organization: None,
            name: "cloud-api-adaptor",
            serves: &[],
        },
        Leaf {
            file: "kubelet",
            organization: nodes,
            name: &node,
            serves: &[],
        },
    ];
    for leaf in &leaves {
        issue(&folder, leaf, &issuer)
            .with_context(|| format!("cannot make the certificate {}", leaf.file))?;
    }
    for user in USERS {
        kubeconfig(state, user)?;
    }
    let accounts = KeyPair::generate()?;
    write(&folder, "sa.key", &accounts.serialize_pem())?;
    write(&folder, "sa.pub", &accounts.public_key_pem())
}

fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = subject(None, "testbed-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(params)
}

fn issue(folder: &Path, leaf: &Leaf<'_>, issuer: &Issuer<'_, KeyPair>) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = subject(leaf.organization, leaf.name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if leaf.serves.is_empty() {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    }];
    for name in leaf.serves {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into()?),
        });
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    write(folder, &format!("{}.crt", leaf.file), &certificate.pem())?;
    write(folder, &format!("{}.key", leaf.file), &key.serialize_pem())
}

fn subject(organization: Option<&str>, name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// A kubeconfig is YAML, and JSON is YAML. Its files' paths are relative to itself.
fn kubeconfig(state: &State, user: &str) -> Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {"server": SERVER, "certificate-authority": "ca.crt"}}],
        "users": [{"name": "testbed", "user": {
            "client-certificate": format!("{user}.crt"), "client-key": format!("{user}.key"),
        }}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
    });
    let path = state.kubeconfig(user);
    fs::write(&path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
