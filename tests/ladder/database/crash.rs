//! What a `kill -9` leaves: the first half is done by hand, with the program's own statements, then the
//! next process takes over.

use kagero::cloud::Databases as _;
use kagero::domain::observed::{DatabaseState, Tags};
use kagero::seed::database::{self, Strategy};
use kagero::seed::marker::{Marker, Sign, Stage};
use kagero::seed::name::{DatabaseName, RoleNames};
use kagero::seed::role::{self, Presence, RoleLimits};
use sqlx::postgres::PgConnection;

use super::harness::{
    INSTALL, SECRET, admin, connect, find, gone, install, left_over, number, ready, shop, spec, sql, tags,
};

/// How far the dead process came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Roles,
    Database,
    Opened,
    DropBegun,
    OnlyRolesLeft,
}

const ALL: [Reached; 5] =
    [Reached::Roles, Reached::Database, Reached::Opened, Reached::DropBegun, Reached::OnlyRolesLeft];

async fn half(superuser: &mut PgConnection, tags: &Tags, name: &DatabaseName, reached: Reached) -> RoleNames {
    let roles = name.roles();
    let marker = Marker::Environment { tags: tags.clone(), database: name.as_str().to_owned() };
    let make = role::make(&roles, [Presence::Missing; 3], &marker, &SECRET.into(), RoleLimits::default());
    sql(superuser, make.text()).await.unwrap();
    if matches!(reached, Reached::Roles | Reached::OnlyRolesLeft) {
        return roles;
    }
    let golden: String = sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE datname LIKE 'kagero\\_ladder\\_golden\\_shop\\_%' LIMIT 1",
    )
    .fetch_one(&mut *superuser)
    .await
    .unwrap();
    let create = database::create(name.as_str(), &roles.owner, &golden, Strategy::Log);
    sql(superuser, create.text()).await.unwrap();
    if reached >= Reached::Opened {
        sql(superuser, database::open(name.as_str()).text()).await.unwrap();
    }
    if reached == Reached::DropBegun {
        let sign = Sign { stage: Stage::Dropping, owner: marker };
        sql(superuser, database::begin_drop(name.as_str(), &sign).text()).await.unwrap();
    }
    roles
}

#[tokio::test]
async fn whatever_a_crash_leaves_is_listed_with_its_owner_and_can_be_dropped() {
    let lane = shop();
    lane.load_goldens().await.unwrap();
    let mut superuser = admin(&lane, "postgres").await;
    for (pr, reached) in (500..).zip(ALL) {
        let tags = tags(pr);
        let name = DatabaseName::parse(&install(), &spec(&tags, "shop").name).unwrap();
        half(&mut superuser, &tags, &name, reached).await;
        let found = find(&lane, name.as_str()).await.unwrap_or_else(|| panic!("{reached:?} is not listed"));
        assert_eq!(found.tags.as_ref(), Some(&tags), "{reached:?}");
        assert!(matches!(found.state, DatabaseState::Failed(_)), "{reached:?}: {:?}", found.state);
        gone(&lane, &tags, name.as_str()).await;
        assert_eq!(left_over(&lane, name.as_str()).await, Vec::<String>::new(), "{reached:?}");
    }
}

#[tokio::test]
async fn the_next_request_finishes_what_a_crash_broke_off() {
    let lane = shop();
    lane.load_goldens().await.unwrap();
    let mut superuser = admin(&lane, "postgres").await;
    for (pr, reached) in (520..).zip([Reached::Roles, Reached::Database, Reached::Opened]) {
        let tags = tags(pr);
        let spec = spec(&tags, "shop");
        let name = DatabaseName::parse(&install(), &spec.name).unwrap();
        half(&mut superuser, &tags, &name, reached).await;
        ready(&lane, &tags, &spec).await;
        let mut app = connect(&lane.access(&spec).await.unwrap().application_url).await.unwrap();
        assert_eq!(number(&mut app, "SELECT count(*) FROM products").await, 2, "{reached:?}");
        gone(&lane, &tags, &spec.name).await;
    }
}

#[tokio::test]
async fn nobody_enters_before_it_is_ready() {
    let lane = shop();
    lane.load_goldens().await.unwrap();
    let mut superuser = admin(&lane, "postgres").await;
    for (pr, reached) in (540..).zip([Reached::Database, Reached::Opened]) {
        let tags = tags(pr);
        let spec = spec(&tags, "shop");
        let name = DatabaseName::parse(&install(), &spec.name).unwrap();
        half(&mut superuser, &tags, &name, reached).await;
        let access = lane.access(&spec).await.unwrap();
        assert!(connect(&access.application_url).await.is_err(), "{reached:?} for {INSTALL}");
        assert!(connect(&access.migration_url).await.is_err(), "{reached:?}");
        gone(&lane, &tags, &spec.name).await;
    }
}
