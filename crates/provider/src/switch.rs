//! How settings say yes and no.

/// Reads `true` or `false`, as Go's flags do, in whatever case: `1`, `t`, `0` and `f` too. None for anything else, an empty text
/// among it.
pub fn parse_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    }
}
