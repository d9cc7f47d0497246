//! Certificates for the webhook: each signed by an authority of its own, whose key is dropped at once.

use std::time::{Duration, SystemTime};

use k8s_openapi::{ByteString, jiff::Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use crate::{
    managed::{Kind, ManagedObject},
    names::{RENEW_AFTER, WEBHOOK_SECRET, WEBHOOK_SERVICE},
};

/// How long one is valid.
const VALIDITY: Duration = Duration::from_secs(90 * DAY);
/// When the next one is made: a month is left for an operator that does not run.
const RENEWAL: Duration = Duration::from_secs(60 * DAY);
/// Clocks of other machines may be behind.
const BACKDATED: Duration = Duration::from_secs(3600);
const DAY: u64 = 24 * 3600;

/// Makes a key, an authority and a certificate; they are in the Secret that is given.
///
/// The authority before stays trusted: replicas read the new certificate when their kubelet brings it, one after the other.
///
/// # Errors
/// Those of the library that makes them, which are errors of ours or the lack of random numbers.
pub fn issue(
    namespace: &str,
    previous_authority: Option<&str>,
    now: SystemTime,
) -> Result<ManagedObject, rcgen::Error> {
    let (not_before, not_after) = (now - BACKDATED, now + VALIDITY);
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name = named("peerpods webhook authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (authority.not_before, authority.not_after) = (not_before.into(), not_after.into());
    let authority_key = KeyPair::generate()?;
    let authority_text = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let name = format!("{WEBHOOK_SERVICE}.{namespace}.svc");
    let mut server = CertificateParams::new(vec![name.clone(), format!("{name}.cluster.local")])?;
    server.distinguished_name = named(&name);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (server.not_before, server.not_after) = (not_before.into(), not_after.into());
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?.pem();

    let trusted = authority_text + previous_authority.map(first_certificate).unwrap_or_default();
    let bytes = |text: String| ByteString(text.into_bytes());
    let renew_after = Timestamp::try_from(now + RENEWAL).unwrap_or(Timestamp::MAX);
    let body = json!({
        "metadata": {"annotations": {(RENEW_AFTER): renew_after.to_string()}},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": bytes(certificate), "tls.key": bytes(key.serialize_pem()), "ca.crt": bytes(trusted)},
    });
    Ok(ManagedObject::new(Kind::Secret, WEBHOOK_SECRET, namespace, body))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// What is to be trusted where the API server trusts `registered` now: replicas read a new certificate when their kubelet
/// brings it, so the newest authority before stays trusted. One that names an authority before it says that itself.
pub(crate) fn with_previous(authority: &str, registered: Option<&str>) -> String {
    let is_alone = first_certificate(authority).len() == authority.len();
    let registered = registered.unwrap_or_default().replace(authority, "");
    let previous = if is_alone {
        first_certificate(&registered)
    } else {
        ""
    };
    format!("{authority}{previous}")
}

/// The newest of those trusted: older ones have no certificate in use.
fn first_certificate(trusted: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    trusted.find(END).map_or("", |end| &trusted[..end + END.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::Certificate;

    #[test]
    fn the_authority_before_stays_trusted_and_no_older_one() {
        let now = SystemTime::now();
        let authority = |previous: Option<&str>| {
            let secret = issue("ns", previous, now).unwrap();
            Certificate::of_secret(&secret.body).unwrap().authority
        };
        let first = authority(None);
        let second = authority(Some(&first));
        let third = authority(Some(&second));
        assert!(second.ends_with(&first) && second.len() > first.len());
        assert!(!third.contains(&first) && third.ends_with(first_certificate(&second)));
    }

    #[test]
    fn what_another_issued_before_stays_trusted_until_the_next_one() {
        let [one, two, three] = ["1", "2", "3"]
            .map(|text| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"));
        assert_eq!(with_previous(&one, None), one);
        let both = with_previous(&two, Some(&one));
        assert_eq!(both, format!("{two}{one}"));
        assert_eq!(with_previous(&two, Some(&both)), both);
        assert_eq!(with_previous(&three, Some(&both)), format!("{three}{two}"));
        assert_eq!(with_previous(&one, Some("nonsense")), one);
    }

    #[test]
    fn it_is_renewed_a_month_before_it_ends() {
        let now = SystemTime::now();
        let secret = issue("ns", None, now).unwrap();
        let renew_after = Certificate::of_secret(&secret.body).unwrap().renew_after;
        let left = renew_after
            .unwrap()
            .duration_since(Timestamp::try_from(now).unwrap());
        assert_eq!(left.as_hours(), 60 * 24);
    }
}
