//! I12: in whatever order deliveries arrive, however often, and if they never do: what counts is the pull request.

use std::time::Duration;

use bytes::Bytes;
use kagero::domain::id::EnvKey;
use kagero::sim::hub::{PostalService, key};
use kagero::store::Delivery;

use super::story::Event;
use super::truth::Violation;
use super::world::{Beginning, Installation, REPO};

/// What happens, half a minute apart.
const CHANGES: [Event; 4] = [
    Event::Push { pr: 1, broken: false },
    Event::Push { pr: 1, broken: false },
    Event::Close { pr: 1, merged: false },
    Event::Reopen { pr: 1 },
];

fn permutations(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in of.iter().enumerate() {
        let mut rest = of.to_vec();
        rest.remove(place);
        all.extend(permutations(&rest).into_iter().map(|tail| [vec![*first], tail].concat()));
    }
    all
}

async fn deliver(installation: &mut Installation, number: usize, key: EnvKey) {
    let action = ["opened", "synchronize", "closed", "reopened"][number];
    let body = serde_json::json!({
        "action": action,
        "pull_request": {"number": key.pr.0},
        "repository": {"id": key.repo.0, "full_name": "acme/shop"},
    });
    let delivery = Delivery {
        guid: format!("guid-{number}"),
        event: "pull_request".to_owned(),
        body: Bytes::from(serde_json::to_vec(&body).unwrap()),
        received_at: installation.outside.time.now(),
    };
    installation.outside.store.inbox().accept(delivery).await.unwrap();
    installation.members[0].told();
}

/// The changes happen, and their deliveries arrive in that order beginning while they do; some of them twice.
async fn in_order(order: &[usize], twice: bool) -> Result<(), Violation> {
    let lost = PostalService { lost: 1_000, ..PostalService::default() };
    let mut installation = Installation::begin(Beginning { post: lost, ..Beginning::fair(3) }).await;
    let lived = async {
        for (number, change) in (1..).zip(CHANGES) {
            installation.happen(number, change).await;
            installation.pass_time(Duration::from_secs(15)).await?;
            if let Some(arrives) = order.get(usize::try_from(number).unwrap() - 1) {
                deliver(&mut installation, *arrives, key(REPO, 1)).await;
                if twice {
                    deliver(&mut installation, *arrives, key(REPO, 1)).await;
                }
            }
            installation.pass_time(Duration::from_secs(15)).await?;
        }
        installation.pass_time(Duration::from_mins(45)).await?;
        installation.truth.at_rest().await
    }
    .await;
    installation.end().await;
    lived
}

#[tokio::test]
async fn any_order_of_deliveries_ends_in_the_same_state() {
    for (number, order) in permutations(&[0, 1, 2, 3]).into_iter().enumerate() {
        // All of them, and of each order also a part: what never arrives is found by the resync.
        for arriving in [&order[..], &order[..number % 4]] {
            let lived = in_order(arriving, number % 2 == 0).await;
            assert_eq!(lived, Ok(()), "{arriving:?}");
        }
    }
}
