//! A registry that stalls, at whatever step and in whatever way: the pull ends within a bound, says which registry, and leaves
//! nothing.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod image_support;

use std::time::{Duration, Instant};

use image_support::{
    Archive, Layer, content, insecure, open,
    script::{Pace, Step, registry},
};
use peerpods_guest::image::{ImageError, Unreachable};

/// Three attempts of two seconds, their pauses, and some for a busy machine. The limits themselves are thirty times as long.
const LIMIT: Duration = Duration::from_secs(30);

fn layer() -> Layer {
    // Large enough that its bytes, one by one, take minutes.
    let noise: Vec<u8> = (0..40_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    Layer::plain(Archive::new().file("noise", &noise).bytes())
}

/// The error of a pull at which one step has this pace.
async fn pull(step: Step, pace: Pace) -> ImageError {
    let address = registry(&layer(), step, pace);
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path(), insecure(address));
    let image = format!("{address}/app:v1").parse().unwrap();
    let start = Instant::now();
    let error = tokio::time::timeout(LIMIT, store.pull(&image, None))
        .await
        .unwrap_or_else(|_| {
            panic!(
                "{step:?}, {pace:?}: the pull has not ended after {:?}",
                start.elapsed()
            )
        })
        .unwrap_err();
    assert_eq!(content(place.path()), (0, 0), "{step:?}, {pace:?}");
    error
}

async fn assert_stalled(step: Step, pace: Pace) {
    let error = pull(step, pace).await;
    assert!(
        matches!(
            &error,
            ImageError::RegistryUnreachable {
                cause: Unreachable::Stalled,
                ..
            }
        ),
        "{step:?}, {pace:?}: {error}"
    );
    assert!(
        error.retryable() && error.to_string().contains("127.0.0.1:"),
        "{error}"
    );
}

#[tokio::test]
async fn the_scripted_registry_is_one() {
    let address = registry(&layer(), Step::Ping, Pace::Whole);
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path(), insecure(address));
    store
        .pull(&format!("{address}/app:v1").parse().unwrap(), None)
        .await
        .unwrap();
    assert_eq!(content(place.path()), (1, 0));
}

#[tokio::test]
async fn one_that_falls_silent_is_given_up_at_every_step() {
    let paces = [Pace::Never, Pace::BreaksOffInTheHead, Pace::StallsInTheBody];
    let steps = [Step::Manifest, Step::Config, Step::Layer];
    let silences = steps
        .into_iter()
        .flat_map(|step| paces.map(|pace| assert_stalled(step, pace)));
    futures::future::join_all(silences).await;
    futures::future::join_all(
        [Pace::Never, Pace::BreaksOffInTheHead].map(|pace| assert_stalled(Step::Ping, pace)),
    )
    .await;
}

#[tokio::test]
async fn one_that_sends_byte_by_byte_is_given_up_at_every_step() {
    let steps = [Step::Manifest, Step::Config, Step::Layer];
    let drips = steps
        .into_iter()
        .flat_map(|step| [Pace::Drips, Pace::DripsTheBody].map(|pace| assert_stalled(step, pace)));
    futures::future::join_all(drips).await;
}

#[tokio::test]
async fn a_document_or_a_layer_without_end_is_not_read_to_it() {
    for step in [Step::Manifest, Step::Config] {
        let error = pull(step, Pace::Endless).await;
        assert!(
            matches!(error, ImageError::LimitExceeded { unit: "bytes", .. }),
            "{step:?}: {error}"
        );
    }
    let error = pull(Step::Layer, Pace::Endless).await;
    assert!(
        !matches!(error, ImageError::RegistryUnreachable { .. }),
        "{error}"
    );
}
