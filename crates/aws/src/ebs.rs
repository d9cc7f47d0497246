//! The EBS direct API: snapshots, block by block.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    Aws, AwsError, EbsAction, ErrorCode, Refusal, action::Repetition, endpoint::Service, exchange::Call,
    http_client::Reply,
};

/// The header that names the kind of an error; a colon and more may follow the code.
const ERROR_TYPE: &str = "x-amzn-errortype";

/// The EBS direct API in one region.
#[derive(Clone, Debug)]
pub struct Ebs {
    aws: Aws,
}

/// One request.
#[derive(Clone, Debug)]
pub struct EbsRequest {
    /// What is asked; the HTTP method follows from it.
    pub action: EbsAction,
    /// Path and query, with the slash they begin with and all that needs it percent-encoded.
    pub path: String,
    /// Further headers, for example `x-amz-checksum`; they are signed.
    pub headers: Vec<(HeaderName, String)>,
    /// JSON or a block's bytes, which clones share.
    pub body: Bytes,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct EbsReply {
    /// The answer's headers, which hold what is said of a block.
    pub headers: HeaderMap,
    /// JSON or a block's bytes.
    pub body: Bytes,
}

impl Ebs {
    pub(crate) fn new(aws: Aws) -> Self {
        Self { aws }
    }

    /// Makes one call.
    ///
    /// # Errors
    /// [`AwsError::Refused`] when EBS says no; others when it cannot be asked.
    pub async fn send(&self, request: EbsRequest) -> Result<EbsReply, AwsError> {
        let call = Call {
            service: Service::Ebs,
            action: request.action.name(),
            category: request.action.category(),
            repetition: Repetition::Harmless,
            method: request.action.method(),
            path: request.path.into(),
            headers: request.headers,
            body: request.body,
            refusal,
        };
        let Reply { headers, body, .. } = self.aws.exchange(&call).await?;
        Ok(EbsReply { headers, body })
    }

    /// Makes one call whose answer is JSON.
    ///
    /// # Errors
    /// As [`Ebs::send`]; [`AwsError::Unreadable`] when the answer is no such JSON.
    pub async fn call<T: DeserializeOwned>(&self, request: EbsRequest) -> Result<T, AwsError> {
        let action = request.action.name();
        let reply = self.send(request).await?;
        serde_json::from_slice(&reply.body).map_err(|error| AwsError::Unreadable {
            action,
            source: error.into(),
        })
    }
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(rename = "Message", alias = "message", default)]
    message: String,
    #[serde(rename = "__type")]
    kind: Option<String>,
}

fn refusal(reply: &Reply) -> Refusal {
    let answer: Option<ErrorAnswer> = serde_json::from_slice(&reply.body).ok();
    let of_header = reply
        .headers
        .get(ERROR_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let (message, of_body) = answer
        .map(|answer| (answer.message, answer.kind))
        .unwrap_or_default();
    match of_header.or(of_body) {
        // `ValidationException:http://…` in a header, `com.amazonaws.ebs#ValidationException` in a body.
        Some(code) => {
            let code = code.split(':').next().unwrap_or_default();
            let code = code.rsplit('#').next().unwrap_or_default();
            Refusal::new(ErrorCode::new(code), message)
        }
        None => Refusal::unnamed(reply.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RefusalKind;

    #[test]
    fn refusals_name_their_kind_in_a_header_or_the_body() {
        let mut reply = Reply {
            status: 400,
            headers: HeaderMap::new(),
            body: r#"{"__type": "com.amazonaws.ebs#ThrottlingException", "message": "slower"}"#.into(),
        };
        assert_eq!(refusal(&reply).kind, RefusalKind::Throttled);
        reply.headers.insert(
            ERROR_TYPE,
            "ResourceNotFoundException:http://internal/".parse().unwrap(),
        );
        reply.body = r#"{"Message": "no such snapshot", "Reason": "SNAPSHOT_NOT_FOUND"}"#.into();
        assert_eq!(
            refusal(&reply).to_string(),
            "ResourceNotFoundException: no such snapshot"
        );
    }
}
