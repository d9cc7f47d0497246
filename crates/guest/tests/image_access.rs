//! Pulls from registries that want to know who asks: what is shown to whom, in which order, and what is said of a refusal.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod image_support;

use std::{fs, net::SocketAddr, path::Path, time::SystemTime};

use base64::{Engine as _, engine::general_purpose};
use image_support::{Archive, Layer, Registry, insecure, open, response, server};
use peerpods_guest::image::{Attempts, ImageError, PulledImage};
use peerpods_proto::{
    payload::SecretText,
    registry::{Credential, ImageAccess, Repository, Secret},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};

/// `htpasswd` of the password "first-password" and "second-password".
const FIRST: &str = "user:$2b$04$abcdefghijklmnopqrstuuT2j8U6U5rBY6aIOMzZiJOWuJPYKLLOe\n";
const SECOND: &str = "user:$2b$04$abcdefghijklmnopqrstuukluLair1GoPMg9PQfjHAu2MGkeVdhk2\n";
const BY_PASSWORD: &str = "auth: {htpasswd: {realm: test, path: @/htpasswd}}";

/// A registry that anybody may push to, with one image of one layer in it.
async fn with_image() -> Option<(Registry, Layer)> {
    let registry = Registry::start()?;
    let layer = Layer::gzip(&Archive::new().file("hello", b"hello").bytes());
    registry.push_honest("team/app:v1", &[&layer]).await;
    Some((registry, layer))
}

fn basic(password: &str) -> Secret {
    Secret::Basic {
        username: "user".to_owned(),
        password: SecretText::new(password.to_owned()),
    }
}

/// Pulls the image into a new store, with what the worker offers.
async fn pull(registry: &Registry, secrets: &[Secret]) -> Result<PulledImage, ImageError> {
    let place = tempfile::tempdir().unwrap();
    let image = registry.name("team/app:v1");
    let numbered = secrets.iter().enumerate();
    let access = ImageAccess {
        repository: Repository::of_image(&image).unwrap(),
        credentials: numbered
            .map(|(number, secret)| Credential {
                source: format!("Secret default/s{number}"),
                secret: secret.clone(),
            })
            .collect(),
        remarks: vec!["Secret default/missing does not exist".to_owned()],
    };
    open(place.path(), registry.settings())
        .pull(&image.parse().unwrap(), Some(&access))
        .await
}

#[tokio::test]
async fn a_password_is_shown_with_every_request() {
    let Some((registry, _)) = with_image().await else {
        return;
    };
    let guarded = registry.again(BY_PASSWORD, &[("htpasswd", FIRST.as_bytes())]);
    let image = pull(&guarded, &[basic("first-password")]).await;
    assert_eq!(image.unwrap().layers.len(), 1);
}

#[tokio::test]
async fn passwords_are_tried_in_their_order_and_a_refusal_names_all() {
    let Some((registry, _)) = with_image().await else {
        return;
    };
    let guarded = registry.again(BY_PASSWORD, &[("htpasswd", FIRST.as_bytes())]);
    let (wrong, right) = (basic("wrong"), basic("first-password"));
    let pulled = pull(&guarded, &[wrong.clone(), right.clone()]).await;
    pulled.unwrap();

    let error = pull(&guarded, &[wrong.clone(), wrong.clone()]).await.unwrap_err();
    let ImageError::NoAccess { attempts, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(attempts.tried, ["Secret default/s0", "Secret default/s1"]);
    for words in [
        &guarded.address.to_string(),
        "refuses access",
        "tried with the credentials of Secret default/s0, Secret default/s1",
        "Secret default/missing does not exist",
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(!error.to_string().contains("wrong"), "{error}");
    let error = pull(&guarded, &[]).await.unwrap_err();
    assert!(
        error.to_string().contains("no credentials were found for it"),
        "{error}"
    );

    // The administrator changes the password.
    fs::write(guarded.file("htpasswd"), SECOND).unwrap();
    pull(&guarded, &[right]).await.unwrap_err();
    pull(&guarded, &[basic("second-password")]).await.unwrap();
}

/// Gives tokens to one user, and knows what it was asked.
struct TokenServer {
    address: SocketAddr,
    certificate: String,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl TokenServer {
    fn start() -> TokenServer {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let chain = general_purpose::STANDARD.encode(certificate.der());
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &key.serialize_der(),
            &SystemRandom::new(),
        )
        .unwrap();
        let right = general_purpose::STANDARD.encode("user:first-password");
        let (address, asked) = server(move |head| {
            if !head.contains(&format!("Basic {right}")) && !head.contains(&format!("basic {right}")) {
                return response("401 Unauthorized", b"who are you?");
            }
            let token = token(&key, &chain);
            response("200 OK", format!(r#"{{"token": "{token}"}}"#).as_bytes())
        });
        TokenServer {
            address,
            certificate: certificate.pem(),
            asked,
        }
    }

    /// The configuration of a registry that sends people here.
    fn section(&self) -> String {
        let realm = format!("http://{}/token", self.address);
        format!(
            "auth: {{token: {{realm: '{realm}', service: test, issuer: test, rootcertbundle: @/issuer.pem}}}}"
        )
    }
}

/// A token that lets its bearer pull the image, for an hour.
fn token(key: &EcdsaKeyPair, chain: &str) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let header = serde_json::json!({"typ": "JWT", "alg": "ES256", "x5c": [chain]});
    let claims = serde_json::json!({
        "iss": "test", "sub": "user", "aud": "test", "jti": "1", "iat": now, "nbf": now - 60, "exp": now + 3600,
        "access": [{"type": "repository", "name": "team/app", "actions": ["pull"]}],
    });
    let encode = |bytes: &[u8]| general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(signature.as_ref()))
}

#[tokio::test]
async fn a_password_is_exchanged_for_a_token() {
    let Some((registry, _)) = with_image().await else {
        return;
    };
    let tokens = TokenServer::start();
    let issuer = [("issuer.pem", tokens.certificate.as_bytes())];
    let guarded = registry.again(&tokens.section(), &issuer);
    let secrets = [basic("wrong"), basic("first-password")];
    pull(&guarded, &secrets).await.unwrap();
    let asked = tokens.asked.lock().unwrap().join("\n");
    assert!(asked.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{asked}");

    let error = pull(&guarded, &[basic("wrong")]).await.unwrap_err();
    assert!(error.to_string().contains("who are you?"), "{error}");
}

#[tokio::test]
async fn where_a_registry_sends_us_for_a_layer_nobody_learns_who_asks() {
    let Some((registry, layer)) = with_image().await else {
        return;
    };
    let blob = registry.blob(layer.digest());
    let (elsewhere, asked) = server(move |head| {
        let path = head.split(' ').nth(1).unwrap();
        let name = Path::new(path).strip_prefix("/docker/registry/v2/blobs").unwrap();
        let blobs = blob.ancestors().nth(4).unwrap();
        response("200 OK", &fs::read(blobs.join(name)).unwrap())
    });
    let redirect = format!(
        "{BY_PASSWORD}\nmiddleware: {{storage: [{{name: redirect, options: {{baseurl: 'http://{elsewhere}/'}}}}]}}"
    );
    let guarded = registry.again(&redirect, &[("htpasswd", FIRST.as_bytes())]);
    pull(&guarded, &[basic("first-password")]).await.unwrap();
    let asked = asked.lock().unwrap().join("\n");
    assert!(
        asked.contains(&layer.digest().hex()),
        "the layer came from elsewhere: {asked}"
    );
    assert!(!asked.to_lowercase().contains("authorization"), "{asked}");
}

#[tokio::test]
async fn credentials_for_another_repository_are_not_used() {
    let (address, asked) = server(|_| response("401 Unauthorized", b""));
    let place = tempfile::tempdir().unwrap();
    let access = ImageAccess {
        repository: Repository::of_image("example.com/team/app").unwrap(),
        credentials: Vec::new(),
        remarks: Vec::new(),
    };
    let error = open(place.path(), insecure(address))
        .pull(&format!("{address}/team/app:v1").parse().unwrap(), Some(&access))
        .await
        .unwrap_err();
    assert!(matches!(&error, ImageError::ForeignCredentials { .. }), "{error}");
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn a_refusal_says_what_was_tried() {
    let attempts = |tried: &[&str], remarks: &[&str]| {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Attempts {
            tried: owned(tried),
            remarks: owned(remarks),
        }
        .to_string()
    };
    assert_eq!(attempts(&[], &[]), "no credentials were found for it");
    assert_eq!(
        attempts(&["Secret a/b"], &["Secret a/c does not exist"]),
        "tried with the credentials of Secret a/b; Secret a/c does not exist"
    );
}
