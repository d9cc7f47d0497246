//! Events to containerd: in order, retried for a while, and never in the way of the pod.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use containerd_shim_protos::{
    api::ForwardRequest,
    events::task::{
        TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed,
        TaskStart,
    },
    shim::event::Envelope,
    shim_async::EventsClient,
    topics,
};
use protobuf::{
    Message,
    well_known_types::{any::Any, timestamp::Timestamp},
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel, error::TrySendError},
    task::JoinHandle,
};
use ttrpc::{asynchronous::Client, context};

/// Names containerd's event socket; CRI-O sets no such thing.
const ADDRESS_VARIABLE: &str = "TTRPC_ADDRESS";
/// Events that wait while containerd restarts. A pod has a handful in its whole life.
const QUEUE: usize = 256;
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a shim that is asked to end still tries to deliver.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// An event of the task API, which knows its topic and its name. The name could be had from the message's description of
/// itself; but with one of them all of them, and what reads them, would be in the program.
pub(crate) trait Event: Message {
    const TOPIC: &'static str;
    const FULL_NAME: &'static str;
}

macro_rules! events {
    ($($event:ident => $topic:ident),* $(,)?) => {
        $(impl Event for $event {
            const TOPIC: &'static str = topics::$topic;
            const FULL_NAME: &'static str = concat!("containerd.events.", stringify!($event));
        })*

        #[cfg(test)]
        #[test]
        fn names_are_those_of_the_messages() {
            use protobuf::MessageFull;

            $(assert_eq!(<$event as Event>::FULL_NAME, $event::descriptor().full_name());)*
        }
    };
}

events! {
    TaskCreate => TASK_CREATE_EVENT_TOPIC,
    TaskStart => TASK_START_EVENT_TOPIC,
    TaskExit => TASK_EXIT_EVENT_TOPIC,
    TaskDelete => TASK_DELETE_EVENT_TOPIC,
    TaskOOM => TASK_OOM_EVENT_TOPIC,
    TaskExecAdded => TASK_EXEC_ADDED_EVENT_TOPIC,
    TaskExecStarted => TASK_EXEC_STARTED_EVENT_TOPIC,
    TaskPaused => TASK_PAUSED_EVENT_TOPIC,
    TaskResumed => TASK_RESUMED_EVENT_TOPIC,
}

/// Hands events to the task that delivers them.
#[derive(Clone)]
pub(crate) struct Publisher {
    namespace: String,
    queue: Sender<Envelope>,
}

/// The task that delivers events; ends when the last publisher is gone.
pub(crate) struct Delivery(JoinHandle<()>);

impl Publisher {
    pub(crate) fn new(namespace: &str) -> (Self, Delivery) {
        let (queue, events) = channel(QUEUE);
        let address = env::var(ADDRESS_VARIABLE)
            .ok()
            .filter(|address| !address.is_empty());
        let delivery = tokio::spawn(deliver(address, events));
        (
            Self {
                namespace: namespace.to_owned(),
                queue,
            },
            Delivery(delivery),
        )
    }

    pub(crate) fn publish<E: Event>(&self, event: E) {
        tracing::debug!(topic = E::TOPIC, "event");
        let Ok(value) = event.write_to_bytes() else { return };
        let envelope = Envelope {
            timestamp: Some(timestamp(SystemTime::now())).into(),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(Any {
                type_url: E::FULL_NAME.to_owned(),
                value,
                ..Any::default()
            })
            .into(),
            ..Default::default()
        };
        if let Err(TrySendError::Full(envelope)) = self.queue.try_send(envelope) {
            tracing::warn!(topic = envelope.topic, "event dropped: too many are waiting");
        }
    }
}

impl Delivery {
    /// Waits until what was published is delivered, or for as long as makes sense.
    pub(crate) async fn finish(self) {
        if tokio::time::timeout(FLUSH_TIME, self.0).await.is_err() {
            tracing::warn!("events were left undelivered");
        }
    }
}

async fn deliver(address: Option<String>, mut events: Receiver<Envelope>) {
    let Some(address) = address else {
        while let Some(envelope) = events.recv().await {
            tracing::info!(topic = envelope.topic, "event without a receiver");
        }
        return;
    };
    let address = if address.contains("://") {
        address
    } else {
        format!("unix://{address}")
    };
    let mut client = None;
    while let Some(envelope) = events.recv().await {
        let request = ForwardRequest {
            envelope: Some(envelope).into(),
            ..Default::default()
        };
        for attempt in 1..=ATTEMPTS {
            match forward(&address, &mut client, &request).await {
                Ok(()) => break,
                Err(error) if attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "event not delivered yet");
                    client = None;
                    tokio::time::sleep(RETRY_DELAY * attempt).await;
                }
                Err(error) => tracing::warn!(topic = request.envelope.topic, %error, "event dropped"),
            }
        }
    }
}

async fn forward(
    address: &str,
    client: &mut Option<EventsClient>,
    request: &ForwardRequest,
) -> ttrpc::Result<()> {
    let connected = match client.take() {
        Some(connected) => connected,
        None => EventsClient::new(Client::connect(address).await?),
    };
    connected
        .forward(context::with_duration(SEND_TIMEOUT), request)
        .await?;
    *client = Some(connected);
    Ok(())
}

/// A point in time as the task API writes it.
pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Default::default()
    }
}
