//! How long, how often and how much, each with its reason.

use std::time::Duration;

/// The longest from nothing to an open connection: AWS's own clients allow as much, and an address that drops packets
/// should not use up a call's time.
pub const CONNECT_LIMIT: Duration = Duration::from_millis(3_100);

/// The longest of one attempt. RunInstances, the slowest call, takes a few seconds when EC2 is busy.
pub const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);

/// The longest of a call with all its attempts, pauses and waits for the request budget: long enough for a burst to
/// pass, shorter than the time that a shim allows for a VM.
pub const CALL_LIMIT: Duration = Duration::from_secs(120);

/// How many attempts a call has. With the pauses below the last is made after about half a minute.
pub const ATTEMPTS: u32 = 8;

/// The longest first pause between attempts; each further one may be twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause of all: what AWS's own clients use.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The largest answer: a page of DescribeInstances with 1,000 instances has about 6 MiB.
pub const REPLY_LIMIT_BYTES: usize = 32 << 20;

/// The most pages that are read of one list: 1,000 entries each.
pub const PAGE_LIMIT: usize = 100;

/// How long before their end credentials are replaced, so that no request is signed with ones that end on the way.
pub const CREDENTIALS_MARGIN: Duration = Duration::from_secs(120);

/// The longest search for credentials or a region: the instance metadata service, asked where there is none, takes
/// several seconds to be given up.
pub const DISCOVERY_LIMIT: Duration = Duration::from_secs(20);
