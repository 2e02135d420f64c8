//! What RDS calls the states of an instance ("Viewing Amazon RDS DB instance status") and of a cluster ("Viewing DB cluster
//! status").
//!
//! Guarantees: a state that is not known is neither ready nor gone.
//! Must not know: what is done about it.

/// How far an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It answers.
    Up,
    /// It will answer, or is busy.
    Busy,
    /// It will not answer by itself; the text says why and what can be done.
    Broken(String),
    /// It was stopped, and can be started.
    Stopped,
    /// It is being deleted.
    Going,
}

impl Status {
    /// From RDS's word.
    pub fn of(word: &str) -> Self {
        let delete = "it is deleted with its environment";
        match word {
            "available" | "storage-optimization" | "storage-config-upgrade" | "storage-initialization" => Self::Up,
            "deleting" | "delete-precheck" => Self::Going,
            "failed" => Self::Broken(format!("RDS says that it has failed and cannot be recovered; {delete}")),
            "restore-error" => Self::Broken(format!("RDS could not restore it from the snapshot; {delete}")),
            "cloning-failed" => Self::Broken(format!("RDS could not clone it from the golden cluster; {delete}")),
            "incompatible-network" => Self::Broken(format!(
                "its subnet group has no room or was changed; deploy infra/network.yaml. {delete}"
            )),
            "incompatible-parameters"
            | "incompatible-option-group"
            | "incompatible-restore"
            | "incompatible-create" => Self::Broken(format!("RDS says {word}: look at its parameter group; {delete}")),
            "inaccessible-encryption-credentials" | "inaccessible-encryption-credentials-recoverable" => {
                Self::Broken(format!("the key that it is encrypted with cannot be used: enable it. {delete}"))
            }
            "insufficient-capacity" => Self::Broken(format!("RDS has no room for its class; {delete}")),
            "stopped" => Self::Stopped,
            "storage-full" => Self::Broken(format!("its storage is full; {delete}")),
            _ => Self::Busy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_not_known_is_neither_ready_nor_gone() {
        assert_eq!(Status::of("available"), Status::Up);
        assert_eq!(Status::of("deleting"), Status::Going);
        assert_eq!(Status::of("stopped"), Status::Stopped);
        for busy in
            ["creating", "backing-up", "modifying", "resetting-master-credentials", "stopping", "never-heard-of", ""]
        {
            assert_eq!(Status::of(busy), Status::Busy, "{busy}");
        }
        for broken in [
            "failed",
            "restore-error",
            "cloning-failed",
            "storage-full",
            "incompatible-network",
            "incompatible-parameters",
            "incompatible-option-group",
            "incompatible-restore",
            "incompatible-create",
            "inaccessible-encryption-credentials",
            "inaccessible-encryption-credentials-recoverable",
            "insufficient-capacity",
        ] {
            assert!(matches!(Status::of(broken), Status::Broken(_)), "{broken}");
        }
    }
}
