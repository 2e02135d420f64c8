//! Machines of a computer that can confine what runs on them.
//!
//! Guarantees: no machine is launched where its agent would refuse to work; the refusal says what is missing, and is
//! shown on the pull request. What is missing may be mended without a restart.
//! Must not know: how processes are confined, how machines are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::agent::options::SandboxOptions;
use crate::agent::sandbox::{ProbeReport, TooWeak, probe};
use crate::cloud::{CloudError, ErrorClass, MachineBirth, Machines};
use crate::domain::id::MachineId;
use crate::domain::network::Interface;
use crate::domain::observed::{Listing, Machine, Residue};
use crate::domain::owned::{Owned, OwnedResidue};

/// See the module's documentation.
pub struct Confining<M> {
    machines: M,
    options: SandboxOptions,
    /// Once it has worked, it is not tried again.
    works: AtomicBool,
}

impl<M> Confining<M> {
    /// These machines, whose agents confine by these options.
    pub fn new(machines: M, options: SandboxOptions) -> Self {
        Self { machines, options, works: AtomicBool::new(false) }
    }

    async fn check(&self) -> Result<ProbeReport, TooWeak> {
        let report = probe(&self.options).await?;
        if report.level > self.options.weakest {
            let (found, wanted, failures) = (report.level, self.options.weakest, report.failures);
            return Err(TooWeak::Level { found, wanted, failures });
        }
        self.works.store(true, Ordering::Relaxed);
        Ok(report)
    }

    /// Says in the log what is missing, if anything is.
    pub async fn announce(self: Arc<Self>) {
        match self.check().await {
            Ok(report) if report.failures.is_empty() => {}
            Ok(report) => {
                let missing: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
                tracing::warn!(
                    sandbox.level = report.level.as_str(),
                    "a stronger sandbox does not work here: {}",
                    missing.join("; ")
                );
            }
            Err(error) => tracing::error!("no pull request can be previewed: {error}"),
        }
    }
}

#[async_trait]
impl<M: Machines> Machines for Confining<M> {
    async fn list(&self) -> Result<Listing<Machine>, CloudError> {
        self.machines.list().await
    }

    async fn launch(&self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        if !self.works.load(Ordering::Relaxed)
            && let Err(error) = self.check().await
        {
            let class = match error {
                TooWeak::Setup { .. } => ErrorClass::Retry,
                TooWeak::Level { .. } | TooWeak::Nothing(_) => ErrorClass::Denied,
            };
            let what = "this computer cannot run pull requests safely".to_owned();
            return Err(CloudError { class, what, why: error.to_string() });
        }
        self.machines.launch(birth).await
    }

    async fn stop(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        self.machines.stop(machine).await
    }

    async fn terminate(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        self.machines.terminate(machine).await
    }

    async fn interfaces(&self) -> Result<Listing<Interface>, CloudError> {
        self.machines.interfaces().await
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        self.machines.residue().await
    }

    async fn clear_away(&self, residue: &OwnedResidue) -> Result<(), CloudError> {
        self.machines.clear_away(residue).await
    }
}
