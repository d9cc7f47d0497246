//! One call with all of its attempts.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use http::{HeaderName, Method};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Aws, AwsError, Pace, Refusal, RefusalKind,
    action::Repetition,
    budget::Category,
    endpoint::Service,
    error::Cause,
    http_client::Reply,
    limits::{ATTEMPT_LIMIT, ATTEMPTS, CALL_LIMIT},
};

const USER_AGENT: &str = concat!("peerpods/", env!("CARGO_PKG_VERSION"));

/// A call as it is sent, once or several times. Not shown in logs: a body may hold a boot payload's secret.
pub(crate) struct Call<'a> {
    pub(crate) service: Service,
    pub(crate) action: &'static str,
    pub(crate) category: Category,
    pub(crate) repetition: Repetition,
    pub(crate) method: Method,
    /// Path and query, with the slash they begin with.
    pub(crate) path: Cow<'a, str>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
    /// Reads what the service says in an answer without success.
    pub(crate) refusal: fn(&Reply) -> Refusal,
}

impl Aws {
    /// Makes the call, again where that can help, until it succeeds, fails for good, or has used up its time.
    pub(crate) async fn exchange(&self, call: &Call<'_>) -> Result<Reply, AwsError> {
        let deadline = Instant::now() + CALL_LIMIT;
        let late = AwsError::TimedOut {
            action: call.action,
            limit: CALL_LIMIT,
        };
        let mut attempt = 1;
        let mut doubtful_attempts = 0;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let outcome = match timeout(remaining, self.attempt(call, doubtful_attempts)).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(late),
            };
            let error = match outcome {
                Ok(reply) => return Ok(reply),
                Err(error) if !error.retryable() || attempt == ATTEMPTS => return Err(error),
                Err(error) if call.repetition == Repetition::MakesAnother && error.is_doubtful() => {
                    return Err(error);
                }
                Err(error) => error,
            };
            doubtful_attempts += u32::from(error.is_doubtful());
            let pause = pause(self.pace, attempt, fastrand::f64());
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(action = call.action, attempt, ?pause, %error, "AWS is asked again");
            sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, call: &Call<'_>, doubtful_attempts: u32) -> Result<Reply, AwsError> {
        self.budget.take(call.category).await;
        let credentials = self.shared.credentials.get(call.action).await?;
        let request = self.signed(call, &credentials)?;
        let reply = timeout(ATTEMPT_LIMIT, self.shared.http.send(request))
            .await
            .map_err(|_| AwsError::TimedOut {
                action: call.action,
                limit: ATTEMPT_LIMIT,
            })?
            .map_err(|source| AwsError::Transport {
                action: call.action,
                source,
            })?;
        if (200..300).contains(&reply.status) {
            self.budget.answered(call.category);
            return Ok(reply);
        }
        let refusal = (call.refusal)(&reply);
        match refusal.kind {
            RefusalKind::Throttled => self.budget.throttled(call.category),
            RefusalKind::Expired => self.shared.credentials.forget(&credentials).await,
            RefusalKind::Capacity
            | RefusalKind::Quota
            | RefusalKind::NotFound
            | RefusalKind::WrongState
            | RefusalKind::IdempotencyMismatch
            | RefusalKind::TokenSpent
            | RefusalKind::Denied
            | RefusalKind::Invalid
            | RefusalKind::Internal
            | RefusalKind::Unclassified => self.budget.answered(call.category),
        }
        Err(AwsError::Refused {
            action: call.action,
            refusal,
            status: reply.status,
            doubtful_attempts,
        })
    }

    fn signed(&self, call: &Call<'_>, credentials: &Credentials) -> Result<http::Request<Bytes>, AwsError> {
        let endpoint = self.endpoint(call.service);
        let failed = |source: Cause| AwsError::Request {
            action: call.action,
            endpoint: endpoint.clone(),
            source,
        };
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(format!("{endpoint}{}", call.path))
            .header(http::header::USER_AGENT, USER_AGENT);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let mut request = request
            .body(call.body.clone())
            .map_err(|error| failed(error.into()))?;
        self.sign(call, credentials, &mut request).map_err(failed)?;
        Ok(request)
    }

    fn sign(
        &self,
        call: &Call<'_>,
        credentials: &Credentials,
        request: &mut http::Request<Bytes>,
    ) -> Result<(), Cause> {
        let identity: Identity = credentials.clone().into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(self.region().as_str())
            .name(call.service.name())
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let uri = request.uri().to_string();
        let headers = call
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let signable = SignableRequest::new(
            call.method.as_str(),
            &uri,
            headers,
            SignableBody::Bytes(&call.body),
        )?;
        let (instructions, _signature) = sign(signable, &parameters)?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}

/// The pause after an attempt, of any length up to one that doubles: callers that failed together do not come back
/// together. `chance` is from 0 to 1.
fn pause(pace: Pace, attempt: u32, chance: f64) -> Duration {
    let doubled = pace.first_pause.saturating_mul(2_u32.saturating_pow(attempt - 1));
    doubled.min(pace.longest_pause).mul_f64(chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let longest: Vec<u128> = (1..=ATTEMPTS)
            .map(|attempt| pause(Pace::default(), attempt, 1.0).as_millis())
            .collect();
        assert_eq!(longest, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 20_000]);
        assert_eq!(pause(Pace::default(), 3, 0.5).as_millis(), 400);
    }
}
