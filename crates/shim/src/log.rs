//! What the shim logs: as much as the administrator wants, as soon as it is known.

use std::{io, sync::OnceLock};

use peerpods_log::OfPod;
use peerpods_proto::shim_settings::LogLevel;
use tracing_subscriber::{
    filter::Targets, fmt::format, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// What changes the level; none where somebody said which is wanted.
static CHANGE: OnceLock<Box<dyn Fn(LogLevel) + Send + Sync>> = OnceLock::new();

/// Logs as `PEERPODS_SHIM_LOG` says: a level, or levels of modules, separated by commas. Otherwise as the adaptor says, and
/// until then of everything that is not for debugging; a runtime that debugs its shims gets at least that.
pub(crate) fn to_standard_error(debug: bool) {
    let least = if debug { LogLevel::Debug } else { LogLevel::Error };
    let asked = std::env::var("PEERPODS_SHIM_LOG")
        .ok()
        .and_then(|text| text.parse().ok());
    let is_asked = asked.is_some();
    let (filter, handle) = reload::Layer::new(asked.unwrap_or_else(|| of(LogLevel::Info.max(least))));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(OfPod(format()))
        .with_writer(io::stderr);
    tracing_subscriber::registry().with(lines).with(filter).init();
    if !is_asked {
        let change = move |level: LogLevel| {
            if let Err(error) = handle.reload(of(level.max(least))) {
                tracing::warn!(%error, "the log level stays as it is");
            }
        };
        // A process logs to one place, and this is called once.
        let _ = CHANGE.set(Box::new(change));
    }
}

/// From now on it is this much.
pub(crate) fn set_level(level: LogLevel) {
    if let Some(change) = CHANGE.get() {
        change(level);
    }
}

fn of(level: LogLevel) -> Targets {
    Targets::new().with_default(peerpods_log::level(level))
}
