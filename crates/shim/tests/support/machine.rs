//! A machine that the shim dials itself, and a pod's namespace on the node.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
};

use peerpods_proto::{
    agent_ttrpc::{create_agent_service, create_health},
    payload::JoinSecret,
};
use peerpods_tunnel::{
    channel::{
        AgentListener, CONNECTION_FILE, ClientIdentity, Connection, ForwardListener, ListenerConfig, join,
    },
    network::create_namespace,
};
use rustix::{
    mount::{UnmountFlags, unmount},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use ttrpc::asynchronous::{Server, transport::Listener};

use super::{FakeAgent, Node, PATIENCE};

impl Node {
    /// Leaves the shim what it needs to dial the machine, as our adaptor does; returns where forwards arrive.
    pub(crate) async fn let_dial(&mut self) -> ForwardListener {
        let (listener, forwards) = self.listen().await;
        self.servers.push(serve(listener, self.agent.clone()).await);
        forwards
    }

    /// The machine's listener, and what the shim needs to dial it.
    pub(super) async fn listen(&self) -> (AgentListener, ForwardListener) {
        let identity = ClientIdentity::issue("sandbox").unwrap();
        let secret = JoinSecret::new([7; 32]);
        let config = ListenerConfig {
            client_ca_pem: identity.authority_pem.clone(),
            join_secret: Some(secret.clone()),
            stock: None,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, forwards) = AgentListener::bind(address, config).await.unwrap();
        let connection = Connection {
            address: listener.address(),
            server_key: join(listener.address(), &identity, &secret).await.unwrap(),
            client_certificate_pem: identity.certificate_pem,
            client_key_pem: identity.key_pem,
        };
        self.leave(&connection);
        (listener, forwards)
    }

    fn leave(&self, connection: &Connection) {
        let file = self.path("pods/sandbox").join(CONNECTION_FILE);
        connection.write(&file).unwrap();
    }

    /// Has the shim dial this address for the machine that it has a pin of.
    pub(crate) async fn let_dial_instead(&self, address: SocketAddr) {
        let file = self.path("pods/sandbox").join(CONNECTION_FILE);
        drop(self.listen().await);
        let mut connection = Connection::read(&file).unwrap();
        connection.address = address;
        self.leave(&connection);
    }
}

async fn serve(listener: AgentListener, agent: FakeAgent) -> Server {
    let connections = futures::stream::unfold(listener, |mut listener| async move {
        let accepted = listener.accept().await.map_err(io::Error::other);
        Some((accepted, listener))
    });
    let agent = Arc::new(agent);
    let mut server = Server::new()
        .add_listener(Listener::new(connections))
        .register_service(create_agent_service(agent.clone()))
        .register_service(create_health(agent));
    server.start().await.unwrap();
    server
}

/// A pod's network namespace, with its loopback up.
pub(crate) struct PodNamespace {
    pub path: PathBuf,
}

impl PodNamespace {
    /// Makes it; `None` without the rights to.
    pub(crate) fn new(node: &Node) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let path = node.path("netns");
        create_namespace(&path).unwrap();
        let enter = format!("--net={}", path.display());
        let up = Command::new("nsenter")
            .args([&enter, "ip", "link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        Some(Self { path })
    }

    /// Dials from within it, as a container runtime does.
    pub(crate) fn dial(&self, address: &str) -> io::Result<TcpStream> {
        let file = fs::File::open(&self.path).unwrap();
        let address = address.parse().unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                TcpStream::connect_timeout(&address, PATIENCE)
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for PodNamespace {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}
