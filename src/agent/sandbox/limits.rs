//! Limits on what processes may use up.
//!
//! Guarantees: no limit is set above the one that the agent itself has.
//! Must not know: how a limit is imposed on a child.

use nix::sys::resource::{Resource, getrlimit};

use crate::agent::options::SandboxOptions;

/// Limits on what processes may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads of one environment.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of address space of one process.
    pub address_space: Option<u64>,
}

impl Limits {
    /// The limits asked for, as far as the agent may impose them.
    pub fn new(options: &SandboxOptions) -> Self {
        Self {
            processes: at_most(options.processes, Resource::RLIMIT_NPROC),
            open_files: at_most(options.open_files, Resource::RLIMIT_NOFILE),
            file_bytes: at_most(options.file_bytes, Resource::RLIMIT_FSIZE),
            address_space: options.address_space.map(|bytes| at_most(bytes, Resource::RLIMIT_AS)),
        }
    }

    /// The same for `prlimit`.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--nproc={0}:{0}", self.processes),
            format!("--nofile={0}:{0}", self.open_files),
            format!("--fsize={0}:{0}", self.file_bytes),
            "--core=0:0".to_owned(),
        ];
        arguments.extend(self.address_space.map(|bytes| format!("--as={bytes}:{bytes}")));
        arguments
    }
}

fn at_most(wanted: u64, resource: Resource) -> u64 {
    getrlimit(resource).map_or(wanted, |(_, hard)| wanted.min(hard))
}
