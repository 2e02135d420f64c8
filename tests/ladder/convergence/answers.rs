//! What a question that failed leaves in the record.

use std::time::Duration;

use kagero::domain::ledger::Role;
use kagero::domain::time::Timestamp;
use kagero::sim::cloud::Quotas;
use kagero::sim::hub::key;

use super::story::Event;
use super::world::{Beginning, Installation, REPO};

/// A question that certainly made nothing must not be waited for, as one must whose answer was lost.
#[tokio::test]
async fn a_quota_leaves_no_question_open() {
    let mut installation = Installation::begin(Beginning::fair(29)).await;
    installation.outside.cloud.set_quotas(Quotas { machines: 0, databases: 0, ..Quotas::default() });
    installation.happen(1, Event::Push { pr: 1, broken: false }).await;
    installation.pass_time(Duration::from_mins(20)).await.unwrap();
    let record = installation.outside.store.ledger(key(REPO, 1)).await.unwrap().unwrap();
    let asked: Vec<_> = record.intents.iter().map(|intent| (&intent.role, intent.asked_at)).collect();
    assert!(asked.iter().any(|(role, _)| **role == Role::Machine), "no machine was asked for: {asked:?}");
    assert!(asked.iter().all(|(_, at)| *at == Timestamp::default()), "{asked:?}");
    assert!(record.intents.iter().all(|intent| intent.answer.is_none()), "a quota is no answer: {record:?}");

    installation.outside.cloud.set_quotas(Quotas::default());
    installation.pass_time(Duration::from_mins(30)).await.unwrap();
    installation.truth.at_rest().await.unwrap();
    assert_eq!(installation.outside.cloud.alive(installation.uid(key(REPO, 1)).as_str()), (1, 1));
    installation.end().await;
}
