//! The VM's clock, kept right: by Amazon's time server on EC2, by the hardware clock under QEMU.
//!
//! The kernel counts from the hardware clock's whole seconds on, by an oscillator that is wrong by seconds in a week, and in a
//! VM that was saved and resumed the count stood still. What is found at the first look is put right at once, since a pod has
//! hardly begun; from then on the kernel is told what it is off, and goes a little faster or slower, so that time never
//! jumps in front of a program. Only a clock that is off by more than half a second, as after the VM stood still, jumps.

pub(crate) mod hardware;
pub mod sntp;
mod unsafe_adjust;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::time::sleep;

use crate::{boot::Platform, error::GuestError};

/// Where EC2 has its time server, in every network.
const AMAZON_TIME: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 169, 123), 123);

/// How often the other clock is looked at: the time constant of the kernel's own control fits this (`unsafe_adjust`).
const INTERVAL: Duration = Duration::from_secs(64);
/// After the first look the second one shows whether it helped.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// What the first look may leave to the kernel's control.
const FIRST_LIMIT: Duration = Duration::from_millis(10);
/// What later ones leave to it: as much as it takes.
const LATER_LIMIT: Duration = Duration::from_millis(500);

/// What a look at another clock found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How far this machine's clock is behind the other one; negative where it is ahead.
    pub behind_nanoseconds: i64,
    /// By how much that may be wrong.
    pub error: Duration,
}

impl Reading {
    fn distance(self) -> Duration {
        Duration::from_nanos(self.behind_nanoseconds.unsigned_abs())
    }
}

/// How the clock is put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Correction {
    /// At once.
    Jump,
    /// Little by little.
    Steer,
}

/// Which clock is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    /// A server's.
    Server(SocketAddr),
    /// The machine's own.
    Hardware,
}

impl Reference {
    /// That of a VM there; none where the kernel is not the guest's.
    fn of(platform: Platform) -> Option<Self> {
        match platform {
            Platform::Ec2 => Some(Self::Server(AMAZON_TIME.into())),
            Platform::Qemu => Some(Self::Hardware),
            Platform::Namespaces => None,
        }
    }

    async fn measure(self) -> Result<Reading, GuestError> {
        match self {
            Self::Server(server) => Ok(sntp::measure(server).await?),
            Self::Hardware => hardware::measure(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Server(_) => "Amazon's time server",
            Self::Hardware => "the hardware clock",
        }
    }
}

/// How often the clock was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Never,
    Once,
    Before,
}

impl Looked {
    fn correction(self, reading: Reading) -> Correction {
        let limit = match self {
            Self::Never => FIRST_LIMIT,
            Self::Once | Self::Before => LATER_LIMIT,
        };
        if reading.distance() > limit {
            Correction::Jump
        } else {
            Correction::Steer
        }
    }

    /// The state after another look, and how long to wait for the next one.
    fn again(self) -> (Self, Duration) {
        match self {
            Self::Never => (Self::Once, SECOND_LOOK),
            Self::Once | Self::Before => (Self::Before, INTERVAL),
        }
    }
}

/// Keeps the clock right for as long as the VM lives. Without another clock to look at it goes on by itself.
pub(crate) async fn keep(platform: Platform) {
    let Some(reference) = Reference::of(platform) else {
        return;
    };
    let mut looked = Looked::Never;
    let mut told = false;
    loop {
        let pause = match reference.measure().await {
            Ok(reading) => {
                told = false;
                if let Err(error) = correct(looked, reading, reference.name()) {
                    tracing::warn!("cannot put the clock right: {error}");
                }
                let pause;
                (looked, pause) = looked.again();
                pause
            }
            Err(error) => {
                if !told {
                    tracing::warn!("the clock goes on by itself: {}", error.chain());
                }
                told = true;
                INTERVAL
            }
        };
        sleep(pause).await;
    }
}

fn correct(looked: Looked, reading: Reading, reference: &str) -> io::Result<()> {
    let off = words(reading);
    match looked.correction(reading) {
        Correction::Jump => {
            tracing::info!("the clock is {off} {reference}, and is set");
            unsafe_adjust::jump(reading.behind_nanoseconds)
        }
        Correction::Steer => {
            if looked != Looked::Before {
                tracing::info!("the clock is {off} {reference}");
            }
            unsafe_adjust::steer(reading)
        }
    }
}

fn words(reading: Reading) -> String {
    let side = if reading.behind_nanoseconds < 0 {
        "ahead of"
    } else {
        "behind"
    };
    format!("{:.3} ms {side}", reading.distance().as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off_by(milliseconds: i64) -> Reading {
        Reading {
            behind_nanoseconds: milliseconds * 1_000_000,
            error: Duration::ZERO,
        }
    }

    #[test]
    fn the_clock_jumps_at_the_first_look_and_hardly_ever_after_it() {
        for (looked, milliseconds, correction) in [
            (Looked::Never, 10, Correction::Steer),
            (Looked::Never, 11, Correction::Jump),
            (Looked::Never, -11, Correction::Jump),
            (Looked::Before, -500, Correction::Steer),
            (Looked::Once, 501, Correction::Jump),
            (Looked::Before, i64::MIN / 1_000_000, Correction::Jump),
        ] {
            assert_eq!(
                looked.correction(off_by(milliseconds)),
                correction,
                "{milliseconds}"
            );
        }
    }

    #[test]
    fn people_are_told_which_side_it_is_on() {
        assert_eq!(words(off_by(1500)), "1500.000 ms behind");
        assert_eq!(words(off_by(-2)), "2.000 ms ahead of");
    }
}
