//! EC2's Query API, version 2016-11-15.

mod answer;
mod page;
mod parameters;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

pub use answer::{Items, Tag};
pub use page::Listed;
pub use parameters::Parameters;

use self::page::Page;
use crate::{Action, Aws, AwsError, endpoint::Service, exchange::Call, limits::PAGE_LIMIT};

/// EC2 in one region.
#[derive(Clone, Debug)]
pub struct Ec2 {
    aws: Aws,
}

impl Ec2 {
    pub(crate) fn new(aws: Aws) -> Self {
        Self { aws }
    }

    /// Makes one call. The answer is read into `T` by serde: fields are named as in EC2's XML, and what `T` does not have
    /// is passed over.
    ///
    /// # Errors
    /// [`AwsError::Refused`] when EC2 says no; others when it cannot be asked, or its answer not be read.
    pub async fn call<T: DeserializeOwned>(
        &self,
        action: Action,
        parameters: &Parameters,
    ) -> Result<T, AwsError> {
        let call = Call {
            service: Service::Ec2,
            action: action.name(),
            category: action.category(),
            repetition: action.repetition(),
            method: http::Method::POST,
            path: "/".into(),
            headers: vec![(
                CONTENT_TYPE,
                "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
            )],
            body: Bytes::from(parameters.body(action)),
            refusal: answer::refusal,
        };
        let reply = self.aws.exchange(&call).await?;
        answer::read(action, &reply.body).map_err(|source| AwsError::Unreadable {
            action: action.name(),
            source,
        })
    }

    /// Makes a call as often as its list has pages, and answers with all entries.
    ///
    /// # Errors
    /// As [`Ec2::call`]; [`AwsError::TooManyPages`] for a list beyond [`PAGE_LIMIT`].
    pub async fn list<T: Listed>(&self, parameters: &Parameters) -> Result<Vec<T>, AwsError> {
        let mut entries = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGE_LIMIT {
            let mut page = parameters.clone();
            if let Some(token) = &next {
                page.set("NextToken", token);
            }
            let mut page: Page<T> = self.call(T::ACTION, &page).await?;
            entries.append(&mut page.entries);
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(entries);
            }
        }
        Err(AwsError::TooManyPages {
            action: T::ACTION.name(),
            limit: PAGE_LIMIT,
        })
    }
}
