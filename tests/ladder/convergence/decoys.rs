//! What is not ours stays untouched, whatever it looks like (I1, I2, I11).

use std::time::Duration;

use kagero::domain::step::Waiting;
use kagero::sim::cloud::Decoy;
use kagero::sim::hub::key;

use super::story::Event;
use super::truth::Violation;
use super::world::{Beginning, Installation, REPO};

/// A life with a decoy that appears before everything, while it runs, or while it leaves. Whether a guard was seen
/// to refuse.
async fn beside(decoy: Decoy, appears: usize) -> Result<bool, Violation> {
    let mut installation = Installation::begin(Beginning::fair(5)).await;
    let story = [Event::Push { pr: 1, broken: false }, Event::Push { pr: 1, broken: false }];
    let mut refused = false;
    let lived = async {
        for number in 0..3 {
            if number == appears {
                installation.happen(0, Event::Decoy { pr: 1, decoy }).await;
            }
            let event = story.get(number).copied().unwrap_or(Event::Close { pr: 1, merged: true });
            installation.happen(u64::try_from(number).unwrap() + 1, event).await;
            installation.pass_time(Duration::from_mins(20)).await?;
            if number < 2 {
                let served = installation.outside.cloud.serves(installation.uid(key(REPO, 1)).as_str());
                if served.is_none() {
                    let (_, seen, decision) = installation.members[0].desk().consider(key(REPO, 1)).await.unwrap();
                    let plan = decision.plan;
                    return Err(Violation(format!("nothing serves beside it: {plan:?}, seen {:?}", seen.machines)));
                }
            }
        }
        let (_, _, decision) = installation.members[0].desk().consider(key(REPO, 1)).await.unwrap();
        refused = decision.plan.waiting.iter().any(|waiting| matches!(waiting, Waiting::Refused(_)));
        // A machine of ours that the cloud does not let go may be using its database: that waits for a person.
        if decoy != Decoy::Protected && !installation.outside.cloud.residue().is_empty() {
            return Err(Violation(format!("left: {:?}", installation.outside.cloud.residue())));
        }
        installation.outside.cloud.remove_decoys();
        installation.pass_time(Duration::from_mins(30)).await?;
        installation.truth.at_rest().await
    }
    .await;
    installation.end().await;
    lived.map(|()| refused)
}

#[tokio::test]
async fn nothing_that_is_not_ours_is_touched() {
    for decoy in Decoy::ALL {
        for appears in 0..3 {
            let refused = match beside(decoy, appears).await {
                Ok(refused) => refused,
                Err(Violation(what)) => panic!("{decoy:?} at {appears}: {what}"),
            };
            // What our listings show of this environment's has to be refused by the guard, not overlooked.
            let expected = matches!(
                decoy,
                Decoy::Untagged
                    | Decoy::CopiedTags
                    | Decoy::OtherAccount
                    | Decoy::OtherName
                    | Decoy::Future
                    | Decoy::Relabelled
            );
            assert!(refused || !expected, "{decoy:?}: no guard was asked");
        }
    }
}
