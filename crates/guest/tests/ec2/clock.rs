//! The time of a server on the network. The clock itself is put right in a VM (`disk.rs`): here it is everybody's.

use std::{net::Ipv4Addr, time::Duration};

use peerpods_guest::clock::sntp::{SntpError, measure};
use peerpods_testkit::ec2::{Answer, TimeServer};

fn server(ahead: Duration, spoil: impl FnMut(&mut Answer) -> bool + Send + 'static) -> TimeServer {
    TimeServer::start((Ipv4Addr::LOCALHOST, 0).into(), ahead, spoil).unwrap()
}

#[tokio::test]
async fn the_distance_to_a_servers_clock_is_measured() {
    for ahead in [
        Duration::ZERO,
        Duration::from_millis(3_250),
        Duration::from_secs(40 * 365 * 86_400),
    ] {
        let found = measure(server(ahead, |_| true).address()).await.unwrap();
        let wrong = (i128::from(found.behind_nanoseconds) - ahead.as_nanos().cast_signed()).unsigned_abs();
        assert!(
            wrong <= found.error.as_nanos() + 1_000,
            "{found:?} is wrong by {wrong} ns"
        );
        eprintln!(
            "{ahead:?} ahead: found with an error of {wrong} ns, of at most {:?}",
            found.error
        );
    }
}

#[tokio::test]
async fn answers_that_are_lost_or_anothers_cost_nothing() {
    let mut count = 0;
    let lossy = server(Duration::from_secs(7), move |answer| {
        count += 1;
        // One is lost, and one answers what nobody asked.
        answer[24] ^= u8::from(count == 2);
        count != 1
    });
    let found = measure(lossy.address()).await.unwrap();
    assert!(
        (6_900_000_000..7_100_000_000).contains(&found.behind_nanoseconds),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_of_no_use_is_told_by_its_fault() {
    let confused = server(Duration::ZERO, |answer| {
        answer[0] |= 3 << 6;
        true
    });
    let error = measure(confused.address()).await.unwrap_err();
    let address = confused.address();
    assert_eq!(
        error.to_string(),
        format!("the time server {address} is of no use: it does not know the time")
    );
    let silent = server(Duration::ZERO, |_| false);
    let error = measure(silent.address()).await.unwrap_err();
    assert!(matches!(error, SntpError::Silent(_)), "{error}");
}
