//! Confinement of file access by the kernel's Landlock.
//!
//! Guarantees: outside its rooms and the system's programs a process can open nothing, and where the
//! kernel can, it signals nothing and reaches no abstract socket.
//! Must not know: processes.

use std::io;
use std::path::{Path, PathBuf};

use ::landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetError, Scope, path_beneath_rules,
};

use super::{Rooms, SYSTEM_DIRS, SYSTEM_FILES};

/// Devices that are safe to share.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// The rules for one command, ready to be imposed.
pub(super) fn rules(rooms: &Rooms, read_only: &[PathBuf]) -> io::Result<RulesetCreated> {
    build(rooms, read_only).map_err(|error| io::Error::other(format!("Landlock refuses the rules: {error}")))
}

fn build(rooms: &Rooms, read_only: &[PathBuf]) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(ABI::V5);
    let read = AccessFs::from_read(ABI::V5);
    let fixed = SYSTEM_DIRS.iter().chain(&SYSTEM_FILES).map(Path::new);
    let readable = fixed.chain(read_only.iter().map(PathBuf::as_path)).chain([Path::new("/proc")]);
    let writable = rooms.writable().into_iter().chain(rooms.reachable.iter().map(PathBuf::as_path));
    Ruleset::default()
        // Reading and writing of files must be confined; what newer kernels add is taken where it is.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(DEVICES, all))?
        .add_rules(path_beneath_rules(writable, all))
}
