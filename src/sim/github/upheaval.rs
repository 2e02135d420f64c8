//! What administrators do to the App and its repositories: uninstall, suspend, rename.
//!
//! Must not know: HTTP.

use serde_json::json;

use super::deliver::Event;
use super::operate::Operator;
use super::{StandinError, json as wire};

impl Operator {
    /// Suspends or resumes the App's installation on the repository's account.
    pub async fn suspend(&self, suspended: bool) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock().await;
        let id = self.repository(&world)?.installation;
        for installation in world.installations.iter_mut().filter(|installation| installation.id == id) {
            installation.suspended_at = suspended.then_some(now);
        }
        self.emit_installation(&mut world, id, if suspended { "suspend" } else { "unsuspend" });
        Ok(())
    }

    /// Uninstalls the App from the repository's account: its tokens die, the repository is out of reach.
    pub async fn uninstall(&self) -> Result<(), StandinError> {
        let mut world = self.shared.world.lock().await;
        let id = self.repository(&world)?.installation;
        self.emit_installation(&mut world, id, "deleted");
        world.installations.retain(|installation| installation.id != id);
        world.tokens.retain(|_, grant| grant.installation != id);
        Ok(())
    }

    /// Renames the repository; it is cloned under both names. The operator for the new name.
    pub async fn rename(&self, name: &str) -> Result<Self, StandinError> {
        let mut world = self.shared.world.lock().await;
        let actor = world.user("mika");
        let directory = self.shared.directory.clone();
        let repo = self.repository_mut(&mut world)?;
        let link = directory.join(&repo.owner.login).join(format!("{name}.git"));
        std::os::unix::fs::symlink(repo.git.path(), &link)
            .map_err(|error| StandinError::new(format!("{} could not be linked", link.display()), error))?;
        let from = std::mem::replace(&mut repo.name, name.to_owned());
        let (id, owner) = (repo.id, repo.owner.login.clone());
        let body = json!({"changes": {"repository": {"name": {"from": from}}}});
        let event = wire::event(&self.shared.links, repo, "repository", "renamed", &actor, body);
        world.former_names.insert(format!("{owner}/{from}").to_lowercase(), id);
        self.shared.emit(&mut world, event);
        Ok(Self::new(&self.shared, &owner, name))
    }

    fn emit_installation(&self, world: &mut super::world::World, id: u64, action: &'static str) {
        let sender = world.user("mika");
        let links = &self.shared.links;
        let Some(installation) = world.installation(id) else { return };
        let repositories: Vec<_> = world
            .repositories
            .iter()
            .filter(|repo| repo.installation == id)
            .map(|repo| json!({"id": repo.id, "name": repo.name, "full_name": repo.full_name(), "private": false}))
            .collect();
        let payload = json!({
            "action": action,
            "installation": wire::installation(links, &world.app, installation),
            "repositories": repositories,
            "sender": wire::user(links, &sender),
        });
        let event = Event { name: "installation", action, installation: Some(id), repository: None, payload };
        self.shared.emit(world, event);
    }
}
