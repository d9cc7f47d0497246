//! Without an API server: what the node itself has, and what is said of the rest. With one: the scenarios of the test bed.

use std::fs;

use super::*;
use crate::{kubernetes::Access, sandbox::example};

struct Lab {
    folder: tempfile::TempDir,
    credentials: Credentials,
}

impl Lab {
    fn new(access: Access, image_pull_secrets: ImagePullSecrets) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let auth_json = folder.path().join("auth.json");
        Self {
            credentials: Credentials::new(Cluster::new(access), image_pull_secrets, auth_json),
            folder,
        }
    }

    fn write(&self, auth_json: &str) {
        fs::write(self.folder.path().join("auth.json"), auth_json).unwrap();
    }

    async fn find(&self, image: &str) -> ImageAccess {
        let repository = Repository::of_image(image).unwrap();
        self.credentials
            .find(&example("pod-1", 555_000), repository)
            .await
    }
}

#[tokio::test]
async fn without_an_api_server_the_node_has_its_own_and_the_remarks_say_what_to_do() {
    let lab = Lab::new(Access::None, ImagePullSecrets::Read);
    let found = lab.find("example.com/app").await;
    assert!(found.credentials.is_empty());
    assert!(
        matches!(&found.remarks[..], [one] if one.contains("default/web") && one.contains("set KUBECONFIG")),
        "{found:?}"
    );

    lab.write(r#"{"auths": {"example.com": {"auth": "dXNlcjpwYXNz"}, "other.org": {}}}"#);
    let found = lab.find("example.com/app").await;
    assert!(found.credentials[0].source.ends_with("auth.json"), "{found:?}");
    // It is read anew each time.
    lab.write("{}");
    assert!(lab.find("example.com/app").await.credentials.is_empty());
    lab.write("");
    assert_eq!(lab.find("example.com/app").await.remarks.len(), 1);
    lab.write("hunter2");
    let found = format!("{:?}", lab.find("example.com/app").await);
    assert!(
        found.contains("no docker configuration") && !found.contains("hunter2"),
        "{found}"
    );
}

#[tokio::test]
async fn secrets_that_are_to_be_ignored_are_not_asked_for() {
    let kubeconfig = Access::Kubeconfig("/no/such/file".into());
    let told = Lab::new(kubeconfig.clone(), ImagePullSecrets::Ignore)
        .find("example.com/app")
        .await;
    assert!(told.remarks[0].contains("IMAGE_PULL_SECRETS"), "{told:?}");
    let told = Lab::new(kubeconfig, ImagePullSecrets::Read)
        .find("example.com/app")
        .await;
    assert!(told.remarks[0].contains("/no/such/file"), "{told:?}");
}
