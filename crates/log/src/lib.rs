//! Lines of logs: each tells which pod it is about, once that is known.
//!
//! A shim and a guest are of one pod for all of their life, and learn which it is on the way: what they do then is spread over
//! tasks, most of which know nothing of pods. So the name is the process's, and not a span's. It stands at the end, among a
//! line's other fields: `pod=NAMESPACE/NAME`, as in the adaptor's lines, whose pods are spans.

use std::{fmt, io, sync::OnceLock};

use peerpods_proto::shim_settings::LogLevel;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// As long as Kubernetes allows a namespace and a name to be: others need not be believed.
const CHARACTERS: usize = 63 + 1 + 253;

static POD: OnceLock<String> = OnceLock::new();

/// From now on this process's lines tell that they are about this pod. It is the first that counts.
pub fn is_about(namespace: &str, name: &str) {
    let pod = peerpods_error::shorten(&format!("{namespace}/{name}"), CHARACTERS);
    // Whoever comes later is told the same: a process has one pod.
    let _ = POD.set(pod);
}

/// What is logged where an administrator wants this much.
pub fn level(wanted: LogLevel) -> Level {
    match wanted {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

/// Logs of a program that serves a cluster: lines on standard error, as `RUST_LOG` says (a level, or levels of modules, separated
/// by commas) and otherwise this much.
///
/// # Panics
/// When the process logs already.
pub fn to_standard_error(level: Level) {
    let asked = std::env::var("RUST_LOG").ok().and_then(|text| text.parse().ok());
    // The client of the API server calls every failure an error, before anybody knows what follows from it.
    let usual = || {
        Targets::new()
            .with_default(level)
            .with_target("kube_client", LevelFilter::OFF)
    };
    let filter: Targets = asked.unwrap_or_else(usual);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

/// Lines in this format, with the process's pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfPod<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for OfPod<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(pod) = POD.get() else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{} pod={pod}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::{format, layer};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_tell_their_pod_as_soon_as_it_is_known() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = layer()
            .with_ansi(false)
            .event_format(OfPod(format().without_time().with_target(false)))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!("serving");
            is_about("shop", "web-0\n");
            is_about("shop", "another");
            tracing::warn!(code = 7, "it fails");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, " INFO serving\n WARN it fails code=7 pod=shop/web-0\n");
    }
}
