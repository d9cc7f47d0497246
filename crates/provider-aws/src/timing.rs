//! How long the provider waits, and how often it looks.

use std::time::Duration;

/// Waits and intervals. The defaults are for EC2; tests against an emulator are in more of a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long EC2 may not show what it has made. It promises nothing; seconds are usual.
    pub visibility: Duration,
    /// How old an answer may be that tells of an instance. With 10 s a hundred nodes ask half of what EC2 lets an account
    /// ask, however many VMs they have.
    pub freshness: Duration,
    /// How often EC2 is asked whether it takes spot instances back. It says so two minutes before, and twice this may pass until
    /// that is seen. With 20 s those hundred nodes ask another quarter.
    pub interruption: Duration,
    /// Between two looks at something that is about to change.
    pub look: Duration,
    /// The longest from asking for an instance's end to its end; a guest that shuts down properly takes half of it.
    pub end: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            visibility: Duration::from_secs(20),
            freshness: Duration::from_secs(10),
            interruption: Duration::from_secs(20),
            look: Duration::from_secs(2),
            end: Duration::from_secs(90),
        }
    }
}
