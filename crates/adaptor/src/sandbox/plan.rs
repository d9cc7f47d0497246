//! What is decided once about a sandbox, before anything is done for it.

use std::{
    fmt,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use peerpods_proto::{
    id::{ID_LIMIT_BYTES, is_id},
    payload::{JoinSecret, PodNetwork},
};
use peerpods_provider::{Assignment, LaunchToken, Owner, PodIdentity, Shape};
use peerpods_tunnel::channel::ClientIdentity;
use ring::digest;
use serde::{Deserialize, Serialize};
use tracing::Span;

/// The container runtime's id of a sandbox: one for which [`is_id`] holds, so that it can name a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SandboxId(String);

/// A text that is no [`SandboxId`].
#[derive(Debug, thiserror::Error)]
#[error(
    "a sandbox id is 1 to {ID_LIMIT_BYTES} letters, digits, '-', '_' and '.', beginning with a letter or digit, not {0:?}"
)]
pub(crate) struct InvalidId(String);

impl TryFrom<String> for SandboxId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        if is_id(&text) {
            Ok(Self(text))
        } else {
            Err(InvalidId(text))
        }
    }
}

impl From<SandboxId> for String {
    fn from(id: SandboxId) -> Self {
        id.0
    }
}

impl SandboxId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// All that is needed to launch, meet, serve and end a sandbox's VM, at any time and after any crash.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Plan {
    pub(crate) sandbox: SandboxId,
    /// The cluster's id.
    pub(crate) cluster: String,
    /// This node's name.
    pub(crate) node: String,
    pub(crate) pod: PodIdentity,
    pub(crate) shape: Shape,
    /// The pod's network namespace on the node.
    pub(crate) netns: PathBuf,
    /// The pod's network as its CNI made it; the VNI in it is the sandbox's own.
    pub(crate) network: PodNetwork,
    pub(crate) identity: ClientIdentity,
    pub(crate) join_secret: JoinSecret,
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Plan")
            .field("sandbox", &self.sandbox)
            .field("pod", &self.pod)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// On every line that is logged for the sandbox, here and in what it has done.
    pub(crate) fn span(&self) -> Span {
        span(&self.pod.pod_namespace, &self.pod.pod_name, &self.sandbox)
    }

    /// Whom the sandbox's VM serves.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            assignment: Assignment::Pod(self.pod.clone()),
        }
    }

    /// The token of the sandbox's launch. `attempt` tells a sandbox from an earlier one of the same id, whose token is
    /// spent.
    pub(crate) fn launch_token(&self, attempt: u128) -> LaunchToken {
        launch_token(&self.cluster, &self.node, self.sandbox.as_str(), attempt)
    }
}

/// Of what is logged for a pod's sandbox.
pub(crate) fn span(namespace: &str, pod: &str, id: &SandboxId) -> Span {
    tracing::info_span!("sandbox", pod = %format_args!("{namespace}/{pod}"), %id)
}

/// The token of one launch of a node, for whatever `subject` names there.
pub(crate) fn launch_token(cluster: &str, node: &str, subject: &str, attempt: u128) -> LaunchToken {
    let text = format!("{cluster}\n{node}\n{subject}\n{attempt}");
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    // 160 of its bits: no two sandboxes will share them, and the text stays below EC2's limit.
    let text = format!("pp-{}", hex::encode(&hash.as_ref()[..20]));
    LaunchToken::try_from(text).expect("43 letters, digits and dashes make a token")
}

/// An attempt that no earlier one of this node shares, because time goes on.
pub(crate) fn attempt_now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos()
}

/// A plan for tests: of a pod that has no network anywhere.
#[cfg(test)]
pub(crate) fn example(sandbox: &str, vni: u32) -> Plan {
    use peerpods_proto::payload::TunnelType;

    let pod = PodIdentity {
        sandbox: sandbox.to_owned(),
        pod_namespace: "default".to_owned(),
        pod_name: "web".to_owned(),
        pod_uid: None,
    };
    let network = PodNetwork {
        pod_ip: "10.244.0.5/24".parse().expect("an address"),
        further_pod_ips: Vec::new(),
        pod_hw_addr: "0a:58:0a:f4:00:05".to_owned(),
        interface: "eth0".to_owned(),
        worker_node_ip: "10.250.0.1/24".parse().expect("an address"),
        tunnel_type: TunnelType::Vxlan,
        routes: Vec::new(),
        neighbors: Vec::new(),
        mtu: 1450,
        index: 0,
        vxlan_port: 4789,
        vxlan_id: vni,
        dedicated: false,
        external_net_via_pod_vm: false,
    };
    Plan {
        sandbox: SandboxId::try_from(sandbox.to_owned()).expect("an id"),
        cluster: "c".to_owned(),
        node: "n".to_owned(),
        pod,
        shape: Shape::default(),
        netns: "/run/netns/no-such-pod".into(),
        network,
        identity: ClientIdentity::issue(sandbox).expect("an identity can be made"),
        join_secret: JoinSecret::new([7; 32]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_name_a_folder() {
        for right in ["a", &"f".repeat(64), "pod_1.x-y"] {
            SandboxId::try_from(right.to_owned()).unwrap();
        }
        for wrong in ["", ".", "..", "a/b", "-a", &"f".repeat(200), "a b", "ü"] {
            SandboxId::try_from(wrong.to_owned()).unwrap_err();
        }
    }

    #[test]
    fn tokens_differ_by_sandbox_and_attempt() {
        let token = |sandbox: &str, attempt| example(sandbox, 0).launch_token(attempt);
        assert_eq!(token("s", 1), token("s", 1));
        assert_ne!(token("s", 1), token("s", 2));
        assert_ne!(token("s", 1), token("t", 1));
    }
}
