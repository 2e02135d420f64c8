//! What AWS refuses with, over the wire: every code that a table knows, and what none knows.

use kagero::cloud::aws::error::{MEANINGS, Verb, classify};
use kagero::cloud::{ErrorClass, Machines as _};

use super::counterpart::{Staging, Wish};
use super::strict::Fault;

#[tokio::test]
async fn every_code_of_the_table_is_understood_when_it_comes() {
    let staging = Staging::start().await;
    let network = staging.network().await;
    let wish = Wish::of(1, &network);
    for (code, class, next) in MEANINGS {
        if *code == "IdempotentParameterMismatch" {
            // Looked after at once: see the tests of machines.
            continue;
        }
        staging.strict.next("RunInstances", Fault::Refused(code, 400));
        // Each of its own, so that its share of the account's launches is not used up.
        let error = staging.machines().await.launch(wish.birth()).await.unwrap_err();
        assert_eq!(error.class, *class, "{code}: {error}");
        let told = error.to_string();
        assert!(told.contains(code) && told.contains(next) && told.contains("kagero-dev-"), "{told}");
    }
    let instances = staging.ec2.describe_instances().send().await.unwrap();
    assert_eq!(instances.reservations().len(), 0, "a refusal makes nothing");
}

#[tokio::test]
async fn an_answer_that_is_none_says_nothing_about_what_was_done() {
    let staging = Staging::start().await;
    let network = staging.network().await;
    let wish = Wish::of(1, &network);
    for fault in [Fault::Dropped, Fault::Html, Fault::Refused("NeverHeardOf", 503)] {
        staging.strict.next("RunInstances", fault.clone());
        let error = staging.machines().await.launch(wish.birth()).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Ambiguous, "{fault:?}: {error}");
    }
    assert_eq!(classify(Verb::Make, Some("NeverHeardOf"), 400).0, ErrorClass::Denied);
}

#[tokio::test]
async fn launches_beyond_our_share_are_not_even_made() {
    let staging = Staging::start().await;
    let (machines, network) = (staging.machines().await, staging.network().await);
    let mut early = 0;
    for pr in 1..=6 {
        match machines.launch(Wish::of(pr, &network).birth()).await {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error.class, ErrorClass::SlowDown(_)), "{error}");
                early += 1;
            }
        }
    }
    assert!(early >= 1, "six at once");
    assert_eq!(staging.strict.count("RunInstances"), 6 - early);
}
