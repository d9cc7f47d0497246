//! Every bound on what a registry or a layer may make the guest do, in one place.

use std::time::Duration;

/// Largest manifest or index: the distribution specification asks registries to accept 4 MiB and no more.
pub const MANIFEST_BYTES: u64 = 4 << 20;

/// Largest image configuration: real ones are a few KiB; histories and labels of the largest stay below 1 MiB.
pub const CONFIG_BYTES: u64 = 8 << 20;

/// Most layers in an image: what image builders allow, and as many file descriptors as one mount opens.
pub const LAYERS: usize = 128;

/// Layers of one image that are downloaded and unpacked at once: enough to keep a pod VM's link busy while
/// each decoder holds a few MiB (a hostile zstd stream up to [`ZSTD_WINDOW_LOG`]).
pub const PARALLEL_LAYERS: usize = 3;

/// Chunks of a layer waiting between the network and the unpacker; the HTTP library's
/// chunks have at most some hundred KiB, so this bounds a layer's memory to about ten MiB.
pub const WAITING_CHUNKS: usize = 32;

/// Bytes all layers of one image may expand to, unless the settings say otherwise. The largest published
/// images (machine learning toolkits) expand to about 50 GiB.
pub const EXPANDED_BYTES: u64 = 128 << 30;

/// Entries in one layer: full distributions with toolchains have some hundred thousand.
pub const LAYER_ENTRIES: u64 = 2_000_000;

/// Longest path of an entry: the kernel's PATH_MAX, beyond which no program could open it.
pub const PATH_BYTES: usize = 4096;

/// Deepest path of an entry: bounds the work of removing a directory tree again.
pub const PATH_DEPTH: usize = 256;

/// Largest extended header (PAX record block or GNU long name): a full path, link target and a few
/// extended attributes of at most 64 KiB each.
pub const EXTENDED_HEADER_BYTES: u64 = 1 << 20;

/// Memory for the paths of directories whose times are set after their content was written.
pub const REMEMBERED_PATH_BYTES: usize = 64 << 20;

/// Largest zstd window, as a power of two: 128 MiB, what `zstd` itself decodes without being asked.
pub const ZSTD_WINDOW_LOG: u32 = 27;

/// Time to reach a registry's port: beyond this a packet filter is dropping us.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without a byte after which a transfer counts as stalled.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Least bytes that a layer brings in each [`STALL_TIMEOUT`] of waiting for it: at less than 8 KiB/s an image takes hours,
/// and no pod waits for it.
pub const SLOWEST_BYTES: usize = 256 << 10;

/// How many times [`STALL_TIMEOUT`] a manifest, a configuration or the beginning of a layer may take in all: they are small,
/// and one that comes byte by byte never stalls.
pub const DOCUMENT_STALLS: u32 = 2;

/// Time for a registry to say which token it wants and for the token server to give it: two short requests.
pub const AUTHORIZATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Tries for a request that failed in a way that may pass. The kubelet repeats the whole pull with its own
/// back-off, so here only hiccups are bridged.
pub const NETWORK_ATTEMPTS: u32 = 3;

/// Pause before the second try; each further pause is four times as long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);
