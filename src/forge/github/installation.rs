//! Which repositories we have access to.
//!
//! Guarantees: an installation that cannot be read makes the listing incomplete, never shorter.
//! Must not know: which of them the operator allows.

use super::Github;
use super::call::{Ask, Identity};
use super::page::{PAGE_SIZE, Page, Pages};
use super::wire::{Installation, Repositories, Repository};
use super::{ForgeError, Listing, RepoRef};
use crate::domain::id::{InstallationId, RepoId, RepoName};
use crate::forge::ForgeErrorKind;

impl Page for Repositories {
    type Item = Repository;

    fn count(&self) -> usize {
        self.repositories.len()
    }

    fn total(&self) -> Option<usize> {
        Some(self.total_count)
    }

    fn items(self) -> Vec<Repository> {
        self.repositories
    }
}

impl Github {
    pub(super) async fn list_repositories(&self) -> Result<Listing<RepoRef>, ForgeError> {
        let at = self.calls.now();
        let path = format!("/app/installations?per_page={PAGE_SIZE}");
        let ask = Ask::get(Identity::App, path, "listing the App's installations".to_owned());
        let installations: Pages<Installation> = self.calls.pages::<Vec<_>>(ask, |_| false).await?;

        let mut listing = Listing { items: Vec::new(), complete: installations.complete, at };
        for installation in installations.items.iter().filter(|found| found.suspended_at.is_none()) {
            match self.list_repositories_of(InstallationId(installation.id)).await {
                Ok(pages) => {
                    listing.complete &= pages.complete;
                    listing.items.extend(pages.items);
                }
                Err(error) => {
                    listing.complete = false;
                    tracing::warn!(
                        installation.id = installation.id,
                        error = %error,
                        "the repositories of an installation could not be listed; nothing of theirs is taken away"
                    );
                }
            }
        }
        Ok(listing)
    }

    async fn list_repositories_of(&self, installation: InstallationId) -> Result<Pages<RepoRef>, ForgeError> {
        let path = format!("/installation/repositories?per_page={PAGE_SIZE}");
        let what = format!("listing the repositories of installation {}", installation.0);
        let ask = Ask::get(Identity::Installation(installation), path, what);
        let pages = self.calls.pages::<Repositories>(ask.clone(), |_| false).await?;
        let named = pages.items.into_iter().map(|found| {
            let name = RepoName::parse(&found.full_name)
                .map_err(|error| ask.error(ForgeErrorKind::Garbled, error.to_string()))?;
            Ok(RepoRef { id: RepoId(found.id), name, installation })
        });
        Ok(Pages { items: named.collect::<Result<_, _>>()?, complete: pages.complete })
    }
}
