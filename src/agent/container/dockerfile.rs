//! What a Dockerfile may not ask a builder for: to be let out of the network and the confinement that it is given.
//!
//! Guarantees: a flag of `RUN` that would do so is found however the line is broken.
//! Must not know: engines. Whether an engine would grant it is not relied upon.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Larger files are refused.
const MOST_BYTES: u64 = 1 << 20;
/// Flags of `RUN` by which a builder gives up what keeps it in.
const REFUSED: [&str; 2] = ["network", "security"];

/// Why the file may not be built by, if it may not.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("the Dockerfile cannot be read ({error})"))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("the Dockerfile has more than {} KiB", MOST_BYTES >> 10));
    }
    match refused_flag(&String::from_utf8_lossy(&bytes)) {
        Some(flag) => {
            Err(format!("`RUN --{flag}` is refused: it would let the build out of the preview's network; remove it"))
        }
        None => Ok(()),
    }
}

fn refused_flag(text: &str) -> Option<&'static str> {
    // Either sign may end a line that goes on: which one does is the file's own choice.
    let whole = text.replace('\r', "");
    ['\\', '`'].into_iter().find_map(|escape| joined(&whole, escape).lines().find_map(flag_of))
}

/// Lines that go on are put together; comments and empty lines between their parts count for nothing.
fn joined(text: &str, escape: char) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut goes_on = false;
    for line in text.lines() {
        let bare = line.trim();
        if bare.starts_with('#') || goes_on && bare.is_empty() {
            continue;
        }
        let trimmed = line.trim_end();
        goes_on = trimmed.ends_with(escape);
        joined.push_str(trimmed.strip_suffix(escape).unwrap_or(line));
        if !goes_on {
            joined.push('\n');
        }
    }
    joined
}

fn flag_of(line: &str) -> Option<&'static str> {
    let mut words = line.split_whitespace();
    let mut instruction = words.next()?;
    while instruction.eq_ignore_ascii_case("ONBUILD") {
        instruction = words.next()?;
    }
    if !instruction.eq_ignore_ascii_case("RUN") {
        return None;
    }
    let flags = words.take_while(|word| word.starts_with("--"));
    let mut names = flags.map(|flag| flag.trim_start_matches('-').split('=').next().unwrap_or_default());
    names.find_map(|name| REFUSED.into_iter().find(|refused| name.eq_ignore_ascii_case(refused)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_found_however_the_line_is_broken() {
        for (text, wanted) in [
            ("FROM a\nRUN --network=host id\n", Some("network")),
            ("run --mount=type=cache,target=/x --security=insecure id", Some("security")),
            ("RUN \\\n  # why\n\n  --net\\\nwork=host id", Some("network")),
            ("# escape=`\nRUN `\n --network=none id", Some("network")),
            ("ONBUILD RUN --network=host id", Some("network")),
            ("RUN --network=host \\\r\n id\r\n", Some("network")),
            ("RUN yarn install --network-timeout 100000", None),
            ("RUN --mount=type=cache,target=/x tool --network host", None),
            ("CMD --network=host", None),
            ("# RUN --network=host", None),
            ("", None),
        ] {
            assert_eq!(refused_flag(text), wanted, "{text}");
        }
    }
}
