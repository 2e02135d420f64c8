//! What to do where a confinement does not work: the package or the kernel setting that is missing.
//!
//! Guarantees: no I/O but reading the kernel's settings; an advice names a command.
//! Must not know: how confinements are tried.

use std::fs;
use std::path::Path;

use super::bubblewrap::Flavour;

/// Settings that keep ordinary users from making namespaces; `None`: this kernel does not have the setting.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kernel {
    max_user_namespaces: Option<u64>,
    unprivileged_userns_clone: Option<u64>,
    apparmor_restrict_unprivileged_userns: Option<u64>,
}

impl Kernel {
    /// The settings of this computer.
    pub(super) fn read() -> Self {
        let setting = |path: &str| fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok();
        Self {
            max_user_namespaces: setting("user/max_user_namespaces"),
            unprivileged_userns_clone: setting("kernel/unprivileged_userns_clone"),
            apparmor_restrict_unprivileged_userns: setting("kernel/apparmor_restrict_unprivileged_userns"),
        }
    }
}

/// What makes bubblewrap work.
pub(super) fn bubblewrap(flavour: Flavour, is_installed: bool, kernel: Kernel) -> String {
    if !is_installed {
        return "install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap or apk add bubblewrap)"
            .to_owned();
    }
    if flavour == Flavour::Root {
        return "in a container, allow it to mount (docker run --cap-add SYS_ADMIN --security-opt seccomp=unconfined \
                --security-opt apparmor=unconfined), or run Kagero on the host"
            .to_owned();
    }
    if kernel.max_user_namespaces == Some(0) {
        return "allow user namespaces (sysctl -w user.max_user_namespaces=15000)".to_owned();
    }
    if kernel.unprivileged_userns_clone == Some(0) {
        return "allow user namespaces (sysctl -w kernel.unprivileged_userns_clone=1)".to_owned();
    }
    if kernel.apparmor_restrict_unprivileged_userns == Some(1) {
        return "allow bubblewrap user namespaces (sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an \
                AppArmor profile for bwrap)"
            .to_owned();
    }
    "in a container, allow user namespaces (docker run --security-opt seccomp=unconfined --security-opt \
     apparmor=unconfined), or run Kagero on the host"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::Flavour::{Root, UserNamespace};
    use super::*;

    #[test]
    fn each_cause_has_its_remedy() {
        let fine = Kernel {
            max_user_namespaces: Some(60_000),
            unprivileged_userns_clone: Some(1),
            apparmor_restrict_unprivileged_userns: Some(0),
        };
        for (flavour, is_installed, kernel, words) in [
            (Root, false, fine, "apt-get install bubblewrap"),
            (UserNamespace, false, fine, "apt-get install bubblewrap"),
            (Root, true, fine, "--cap-add SYS_ADMIN"),
            (UserNamespace, true, fine, "seccomp=unconfined"),
            (UserNamespace, true, Kernel { max_user_namespaces: Some(0), ..fine }, "user.max_user_namespaces=15000"),
            (
                UserNamespace,
                true,
                Kernel { unprivileged_userns_clone: Some(0), ..fine },
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                UserNamespace,
                true,
                Kernel { apparmor_restrict_unprivileged_userns: Some(1), ..fine },
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (UserNamespace, true, Kernel::default(), "run Kagero on the host"),
        ] {
            let advice = bubblewrap(flavour, is_installed, kernel);
            assert!(advice.contains(words), "{flavour:?} {is_installed} {kernel:?}: {advice}");
        }
    }
}
