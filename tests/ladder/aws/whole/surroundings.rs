//! A network and an `/etc` of the test's own, so that addresses of a VPC, of the internet and of the metadata service stand
//! for what they are, and nothing of this computer is touched.
//!
//! Guarantees: the kernel takes all of it away when the test's last process has ended, however it ends.
//! Must not know: who lives in them.

use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Tells a story in surroundings of its own. Whatever the story starts is in them too.
pub fn in_surroundings_of_its_own(addresses: &'static [&'static str], story: impl AsyncFnOnce() + Send + 'static) {
    let told = std::thread::spawn(move || {
        separate();
        ip("link set lo up");
        for address in addresses {
            ip(&format!("address add {address}/32 dev lo"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(story());
    });
    if let Err(panic) = told.join() {
        std::panic::resume_unwind(panic);
    }
}

/// This thread and all that it starts leave the computer's network and mounts.
fn separate() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .unwrap_or_else(|why| panic!("namespaces cannot be made ({why}): run the tests as root"));
    let nothing: Option<&Path> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    mount(Some("own"), "/mnt", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
    assert!(Command::new("cp").args(["-a", "/etc", "/mnt/etc"]).status().unwrap().success());
    mount(Some("/mnt/etc"), "/etc", nothing, MsFlags::MS_BIND, nothing).unwrap();
}

/// Runs `ip`.
pub fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    let done = done.unwrap_or_else(|why| panic!("ip cannot be run ({why}). Install it with: make setup"));
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The network interfaces that there are.
pub fn interfaces() -> Vec<String> {
    let listed = Command::new("ip").args(["-brief", "link"]).output().unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    // A cable's end is listed as `name@peer`.
    let names = listed.lines().filter_map(|line| line.split([' ', '@']).next());
    names.map(str::to_owned).collect()
}
