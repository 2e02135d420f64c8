//! What happens between fork and exec where no bubblewrap does it. The only unsafe code of the crate.
//!
//! Guarantees: whatever fails there makes the start fail; nothing runs half-confined.
//! Must not know: what is run.

use std::io;

use ::landlock::RulesetCreated;
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::setsid;
use tokio::process::Command;

use super::limits::Limits;

/// Arranges that the command's process confines itself before it becomes the program.
#[allow(unsafe_code, reason = "the kernel offers no other moment to confine a child without a helper program")]
pub(super) fn confine(command: &mut Command, run_as: Option<u32>, limits: Limits, mut rules: Option<RulesetCreated>) {
    if let Some(uid) = run_as {
        command.uid(uid).gid(uid);
    }
    let setup = move || -> io::Result<()> {
        setsid()?;
        set_pdeathsig(Signal::SIGKILL)?;
        set_no_new_privs()?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        setrlimit(Resource::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)?;
        setrlimit(Resource::RLIMIT_NOFILE, limits.open_files, limits.open_files)?;
        setrlimit(Resource::RLIMIT_NPROC, limits.processes, limits.processes)?;
        if let Some(bytes) = limits.address_space {
            setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
        }
        if let Some(rules) = rules.take() {
            rules.restrict_self().map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; the rules were prepared before,
    // and dropping them closes a descriptor.
    unsafe {
        command.pre_exec(setup);
    }
}
