//! Kagero looks whose ground it stands on before anything else.

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use kagero::cloud::aws::rules::ground::{Expected, Objection, judge};
use kagero::cloud::aws::{Lack, Network, Wanted, survey_ground, survey_network};

use super::counterpart::{ACCOUNT, KIND, Staging, install};
use super::strict::Fault;

fn expected(staging: &Staging) -> Expected {
    Expected {
        install: install(),
        account: ACCOUNT.to_owned(),
        vpc: staging.vpc.clone(),
        production_words: ["prod", "production", "live"].map(str::to_owned).to_vec(),
    }
}

async fn objections(staging: &Staging, expected: &Expected) -> Vec<Objection> {
    judge(&survey_ground(&staging.aws, &expected.vpc).await, expected)
}

#[tokio::test]
async fn only_staging_is_stood_on() {
    let staging = Staging::start().await;
    let good = expected(&staging);
    assert_eq!(objections(&staging, &good).await, []);

    let other = Expected { account: "999999999999".to_owned(), ..good.clone() };
    let found = objections(&staging, &other).await;
    assert!(matches!(&found[..], [Objection::OtherAccount { found, .. }] if found == ACCOUNT), "{found:?}");
    let nowhere = Expected { vpc: "vpc-0123456789abcdef0".to_owned(), ..good.clone() };
    assert!(matches!(&objections(&staging, &nowhere).await[..], [Objection::NoNetwork { .. }]));

    // One permission is missing: then nobody knows.
    for (action, what) in [
        ("GetCallerIdentity", "the account"),
        ("ListAccountAliases", "the account's alias"),
        ("DescribeVpcs", "the network"),
        ("DescribeInstances", "what lives in the network"),
        ("DescribeDBInstances", "what lives in the network"),
    ] {
        staging.strict.next(action, Fault::Refused("AccessDenied", 403));
        let found = objections(&staging, &good).await;
        assert!(matches!(&found[..], [Objection::Unread { what: named, .. }] if *named == what), "{action}: {found:?}");
    }

    // Somebody puts a machine of production's into the network.
    let subnet = staging.network().await.subnets.into_values().next().unwrap().id;
    let tags = TagSpecification::builder().resource_type(ResourceType::Instance);
    let tags = tags.tags(Tag::builder().key("Environment").value("production").build()).build();
    let launched = staging.ec2.run_instances().image_id(&staging.ami).min_count(1).max_count(1).subnet_id(subnet);
    launched.tag_specifications(tags).send().await.unwrap();
    let found = objections(&staging, &good).await;
    assert!(matches!(&found[..], [Objection::Production { id, .. }] if id.starts_with("i-")), "{found:?}");

    staging.iam.delete_account_alias().account_alias("acme-staging").send().await.unwrap();
    staging.iam.create_account_alias().account_alias("acme-prod").send().await.unwrap();
    let found = objections(&staging, &good).await;
    assert!(matches!(&found[..], [Objection::ProductionAccount { .. }, Objection::Production { .. }]), "{found:?}");
}

#[tokio::test]
async fn what_the_network_lacks_is_named() {
    let staging = Staging::start().await;
    let network = staging.network().await;
    assert_eq!((network.subnets.len(), network.slots.len(), network.placements.count()), (2, 3, 4));
    let kinds = [KIND.to_owned(), "z9.huge".to_owned()];
    let wanted = Wanted { vpc: staging.vpc.clone(), ami: "ami-0123456789abcdef0".to_owned(), kinds: kinds.to_vec() };
    let found = survey_network(&staging.aws, &wanted).await.unwrap();
    let lacks = Network::assemble(&found, &install(), &wanted.ami, &kinds).unwrap_err();
    assert!(matches!(&lacks[..], [Lack::Image(_), Lack::InstanceType(kind, _)] if kind == "z9.huge"), "{lacks:?}");
}
