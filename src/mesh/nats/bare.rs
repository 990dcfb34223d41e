//! Bare JetStream, with nothing of ours: what figures of the mesh stand beside.
//!
//! A stream of its own, a publisher that waits for acknowledgements and a push consumer, as the NATS client has them. Used by
//! benches only. Does not know nodes, exports or envelopes.

use std::{
    future::IntoFuture as _,
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, Context, consumer::push, stream};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};

/// How long one message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream with one subject, and a consumer of all that comes.
pub struct BareStream {
    context: Context,
    subject: String,
    deliveries: push::Ordered,
}

impl std::fmt::Debug for BareStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareStream").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl BareStream {
    /// Makes a stream of this name on the broker and a consumer of what is published from now on.
    pub async fn create(url: &str, name: &str) -> Result<Self, String> {
        let client = async_nats::connect(url).await.map_err(|error| format!("{url}: {error}"))?;
        let context = jetstream::new(client.clone());
        let subject = format!("{name}.message");
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.clone()],
            ..stream::Config::default()
        };
        let stream =
            context.create_stream(config).await.map_err(|error| format!("stream {name}: {error}"))?;
        let config =
            push::OrderedConfig { deliver_subject: client.new_inbox(), ..push::OrderedConfig::default() };
        let consumer = stream.create_consumer(config).await;
        let consumer = consumer.map_err(|error| format!("consumer of {name}: {error}"))?;
        let deliveries = consumer.messages().await.map_err(|error| format!("consumer of {name}: {error}"))?;
        Ok(Self { context, subject, deliveries })
    }

    /// From the call that publishes a message to its delivery.
    pub async fn publish_to_deliver(&mut self, payload: Bytes) -> Result<Duration, String> {
        let begun = Instant::now();
        let acknowledged = self.context.publish(self.subject.clone(), payload).await;
        let acknowledged = acknowledged.map_err(|error| format!("publish: {error}"))?;
        let delivered = tokio::time::timeout(PATIENCE, self.deliveries.next()).await;
        let latency = begun.elapsed();
        match delivered {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(format!("delivery: {error}")),
            Ok(None) => return Err("the consumer has ended".to_owned()),
            Err(_) => return Err(format!("no delivery within {PATIENCE:?}")),
        }
        acknowledged.await.map_err(|error| format!("publish: {error}"))?;
        Ok(latency)
    }

    /// Publishes so many messages of these bytes with at most `window` unacknowledged; gives the time until the last
    /// acknowledgement. Nobody consumes them.
    pub async fn publish_many(
        url: &str,
        name: &str,
        payload: Bytes,
        count: u64,
        window: usize,
    ) -> Result<Duration, String> {
        let Self { context, subject, deliveries } = Self::create(url, name).await?;
        drop(deliveries);
        let begun = Instant::now();
        let mut unacknowledged = FuturesUnordered::new();
        for _ in 0..count {
            if unacknowledged.len() >= window
                && let Some(outcome) = unacknowledged.next().await
            {
                let outcome: Result<_, jetstream::context::PublishError> = outcome;
                outcome.map_err(|error| format!("publish: {error}"))?;
            }
            let sent = context.publish(subject.clone(), payload.clone()).await;
            unacknowledged.push(sent.map_err(|error| format!("publish: {error}"))?.into_future());
        }
        while let Some(outcome) = unacknowledged.next().await {
            outcome.map_err(|error| format!("publish: {error}"))?;
        }
        Ok(begun.elapsed())
    }
}
