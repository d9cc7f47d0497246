//! How many requests are under way at once.
//!
//! Most end at once, but three for every process last as long as it does, and no shim has a limit of its own. What is
//! beyond is refused, and not queued: a request that waits for its turn would look like a VM that hangs.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use protobuf::MessageField;
use tokio::sync::Semaphore;
use ttrpc::{
    Code, Request, Response,
    asynchronous::{MethodHandler, Service, TtrpcContext},
    get_status,
};

/// More than a thousand processes with all their streams; a node has at most some hundred pods, each with a few.
pub(super) const REQUESTS_LIMIT: usize = 4096;

type Method = Box<dyn MethodHandler + Send + Sync>;

/// Limits the requests to these services, all together.
pub(super) fn limit(services: &mut HashMap<String, Service>) {
    let free = Arc::new(Semaphore::new(REQUESTS_LIMIT));
    for service in services.values_mut() {
        let methods = std::mem::take(&mut service.methods);
        let limited = methods.into_iter().map(|(name, method)| {
            let free = free.clone();
            (name, Box::new(Limited { method, free }) as Method)
        });
        service.methods = limited.collect();
    }
}

struct Limited {
    method: Method,
    free: Arc<Semaphore>,
}

#[async_trait]
impl MethodHandler for Limited {
    async fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        match self.free.try_acquire() {
            Ok(_under_way) => self.method.handler(context, request).await,
            Err(_) => Ok(refusal()),
        }
    }
}

fn refusal() -> Response {
    let message = format!("{REQUESTS_LIMIT} requests are under way in the VM already");
    Response {
        status: MessageField::some(get_status(Code::RESOURCE_EXHAUSTED, message)),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{FutureExt, join_all};

    use super::*;

    /// Says that it answered, once it is let go.
    struct Blocking(Arc<Semaphore>);

    #[async_trait]
    impl MethodHandler for Blocking {
        async fn handler(&self, _: TtrpcContext, _: Request) -> ttrpc::Result<Response> {
            let _permit = self.0.acquire().await;
            Ok(Response::new())
        }
    }

    fn context() -> TtrpcContext {
        TtrpcContext {
            mh: ttrpc::MessageHeader::default(),
            metadata: HashMap::new(),
            timeout_nano: 0,
            connection_data: Arc::default(),
        }
    }

    #[tokio::test]
    async fn what_is_beyond_the_limit_is_refused_until_others_have_ended() {
        let gate = Arc::new(Semaphore::new(0));
        let method = |name: &str| (name.to_owned(), Box::new(Blocking(gate.clone())) as Method);
        let service = Service {
            methods: HashMap::from([method("Wait"), method("Read")]),
            streams: HashMap::new(),
        };
        let mut services = HashMap::from([("agent".to_owned(), service)]);
        limit(&mut services);
        let [wait, read] = ["Wait", "Read"].map(|name| &services["agent"].methods[name]);

        let mut under_way: Vec<_> = (0..REQUESTS_LIMIT)
            .map(|_| wait.handler(context(), Request::new()))
            .collect();
        assert!(under_way.iter_mut().all(|one| one.now_or_never().is_none()));
        let refused = read.handler(context(), Request::new()).await.unwrap();
        assert_eq!(refused.status.code(), Code::RESOURCE_EXHAUSTED);

        gate.add_permits(1);
        let ended = join_all(under_way).await;
        assert!(
            ended
                .iter()
                .all(|answer| answer.as_ref().unwrap().status.is_none())
        );
        let answered = read.handler(context(), Request::new()).await.unwrap();
        assert!(answered.status.is_none());
    }
}
