//! What every provider in the cloud has to do, asked of the simulator and of the real one on moto: so that what was proven in
//! the simulator was not proven of a world of its own.
//!
//! Guarantees: both are asked the same, by the same words. What only one of them can show (when something is listed, which
//! code was given) is asked elsewhere.
//! Must not know: how either works.

mod databases;
mod machines;
mod worlds;

use std::time::Duration;

use async_trait::async_trait;
use kagero::cloud::{CloudError, DatabaseBirth, Databases, MachineBirth, Machines};
use kagero::domain::desired::DatabaseSpec;
use kagero::domain::id::{EnvKey, EnvUid, Generation, InstallId, PrNumber, RepoId, SlotId};
use kagero::domain::ledger::{Role, Token};
use kagero::domain::network::Placement;
use kagero::domain::observed::Tags;
use kagero::domain::policy::{AllowList, Engine};
use kagero::domain::time::Timestamp;

use super::databases::seed;

/// What becomes of the next call of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is done, and the answer is lost.
    LostAfter,
    /// It is not done, and no answer comes.
    LostBefore,
    /// It came too soon.
    Throttled,
}

/// A call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Launch,
    StopMachine,
    Terminate,
    Prepare,
    StopDatabase,
    DeleteDatabase,
}

/// A provider with the world around it.
#[async_trait]
trait World: Send + Sync {
    fn machines(&self) -> &dyn Machines;
    fn databases(&self) -> &dyn Databases;
    fn install(&self) -> InstallId;
    fn allowed(&self) -> AllowList;
    fn slots(&self) -> Vec<SlotId>;
    fn placement(&self) -> Placement;
    fn now(&self) -> Timestamp;
    /// The next call of that kind meets that.
    fn meet(&self, call: Call, fate: Fate);
    /// A moment passes, in which the cloud goes on with what it was asked for.
    async fn pass(&self);
}

/// One environment's wishes.
struct Wish {
    tags: Tags,
    token: Token,
    placement: Placement,
    slot: SlotId,
    spec: DatabaseSpec,
}

impl Wish {
    fn of(world: &dyn World, pr: u64) -> Self {
        let key = EnvKey { repo: RepoId(1), pr: PrNumber(pr) };
        let install = world.install();
        let uid = EnvUid::derive(&install, key);
        let placement = world.placement();
        let token = Token::derive(&uid, Generation::FIRST, &Role::Machine, 1, Some(&placement));
        let slots = world.slots();
        let slot = slots[usize::try_from(pr).unwrap() % slots.len()].clone();
        let name = format!("kagero_{}_{uid}_g1", install.as_str().replace('-', "_"));
        let spec = DatabaseSpec { name, engine: Engine::Postgres, seed: seed() };
        Self { tags: Tags { install, uid, key, generation: Generation::FIRST }, token, placement, slot, spec }
    }

    fn machine(&self) -> MachineBirth<'_> {
        MachineBirth {
            token: &self.token,
            attempt: 1,
            tags: &self.tags,
            placement: Some(&self.placement),
            slot: Some(&self.slot),
        }
    }

    fn database(&self) -> DatabaseBirth<'_> {
        DatabaseBirth { tags: &self.tags, database: &self.spec, slot: Some(&self.slot) }
    }
}

/// More moments than anything takes.
const MOMENTS: usize = 3_000;

/// Asks until it is so, with a moment between.
async fn until<T>(world: &dyn World, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..MOMENTS {
        if let Some(found) = probe().await {
            return found;
        }
        world.pass().await;
    }
    panic!("{what}: never")
}

/// Asks again for as long as it is asked too often.
async fn in_turn<T>(world: &dyn World, mut call: impl AsyncFnMut() -> Result<T, CloudError>) -> Result<T, CloudError> {
    until(world, "its turn", async || match call().await {
        Err(error) if matches!(error.class, kagero::cloud::ErrorClass::SlowDown(wait) if wait < Duration::from_secs(10)) => {
            None
        }
        done => Some(done),
    })
    .await
}

macro_rules! in_both {
    ($($module:ident::$name:ident),+ $(,)?) => {
        mod simulator {
            $(#[tokio::test]
            async fn $name() {
                super::$module::$name(&super::worlds::Simulated::begin()).await;
            })+
        }
        mod moto {
            $(#[tokio::test]
            async fn $name() {
                super::$module::$name(&super::worlds::OnMoto::begin().await).await;
            })+
        }
    };
}

in_both! {
    machines::asked_twice_it_is_one_and_as_it_was_asked_for,
    machines::a_lost_answer_does_not_double_it,
    machines::a_lost_or_throttled_question_makes_nothing,
    machines::what_was_terminated_goes_and_its_token_with_it,
    machines::what_was_stopped_is_started_by_the_same_question,
    machines::old_evidence_is_refused_and_changes_nothing,
    databases::asked_for_twice_there_is_one,
    databases::an_answer_that_was_lost_does_not_make_another,
    databases::a_name_that_is_taken_is_not_taken_over,
    databases::what_was_deleted_goes_and_may_be_asked_for_anew,
    databases::what_was_stopped_is_started_by_asking_again,
    databases::old_evidence_deletes_nothing,
}
