//! Goldens that no seed makes any more: found, and dropped only with their markers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kagero::clock::{Clock as _, SystemClock};
use kagero::cloud::local::databases::{
    LocalDatabases, PostgresConfig, PostgresDatabases, SqliteConfig, SqliteDatabases,
};
use kagero::cloud::{Databases, ErrorClass};
use kagero::domain::desired::DatabaseSpec;
use kagero::domain::mark::Mark;
use kagero::domain::observed::{Residue, ResidueState};
use kagero::domain::owned::{OwnedResidue, Refusal, prove_residue};
use kagero::domain::policy::{AllowList, Engine};

use super::harness::{
    Home, admin, config, connect, golden, gone, install, left_over, number, ready, spec, sql, start, tags,
};

/// Goldens of this seed, those of use first.
async fn goldens(lane: &dyn Databases, seed: &str) -> Vec<Residue> {
    let mut found = lane.residue().await.unwrap().items;
    found.retain(|one| one.name.contains(&format!("_golden_{seed}_")));
    found.sort_by_key(|one| (matches!(one.state, ResidueState::Unused(_)), one.name.clone()));
    found
}

fn uses(goldens: &[Residue]) -> Vec<bool> {
    goldens.iter().map(|one| matches!(one.state, ResidueState::Used(_))).collect()
}

fn prove(golden: &Residue) -> Result<OwnedResidue, Refusal> {
    let at = golden.location.clone();
    let allow = AllowList { accounts: vec![at.account], regions: vec![at.region], networks: vec![at.network] };
    let now = SystemClock.now();
    let first_at = now.minus(Duration::from_hours(25));
    let mark = Mark { first_at, sightings: 3, ..Mark::begin(golden.subject.clone(), None, now) };
    prove_residue(golden, &install(), &mark, &allow, now)
}

#[tokio::test]
async fn a_changed_seed_leaves_an_old_golden_that_can_be_dropped() {
    let home = Home::shared();
    let seed = home.file("changing.sql", "CREATE TABLE a (b int);");
    let lane = start(config(home, vec![golden("changing", &seed)]));
    lane.load_goldens().await.unwrap();
    let first = goldens(&lane, "changing").await;
    assert_eq!(uses(&first), [true]);
    assert!(matches!(prove(&first[0]), Err(Refusal::Used { .. })));
    home.file("changing.sql", "CREATE TABLE a (b int, c int);");
    lane.load_goldens().await.unwrap();
    let both = goldens(&lane, "changing").await;
    assert_eq!((uses(&both), &both[1].name), (vec![true, false], &first[0].name));

    // The seed is put back before it is dropped: then it stays.
    let owned = prove(&both[1]).unwrap();
    home.file("changing.sql", "CREATE TABLE a (b int);");
    let refused = lane.clear_away(&owned).await.unwrap_err();
    assert!(refused.why.contains("a configured seed makes it again"), "{refused}");
    assert_eq!(goldens(&lane, "changing").await.len(), 2);
    home.file("changing.sql", "CREATE TABLE a (b int, c int);");
    lane.clear_away(&owned).await.unwrap();
    lane.clear_away(&owned).await.unwrap();
    assert_eq!(uses(&goldens(&lane, "changing").await), [true]);
    assert_eq!(left_over(&lane, &first[0].name).await, Vec::<String>::new());
    let (tags, spec) = (tags(460), spec(&tags(460), "changing"));
    ready(&lane, &tags, &spec).await;
    let mut app = connect(&lane.access(&spec).await.unwrap().application_url).await.unwrap();
    assert_eq!(number(&mut app, "SELECT count(c) FROM a").await, 0);
    gone(&lane, &tags, &spec.name).await;
}

#[tokio::test]
async fn a_golden_without_our_markers_is_never_dropped() {
    let home = Home::shared();
    let seed = home.file("signed.sql", "CREATE TABLE a (b int);");
    start(config(home, vec![golden("signed", &seed)])).load_goldens().await.unwrap();
    // No configuration names it.
    let lane = start(config(home, vec![]));
    let [one] = &goldens(&lane, "signed").await[..] else { panic!("not one") };
    let (name, owned) = (one.name.as_str(), prove(one).unwrap());
    let mut superuser = admin(&lane, "postgres").await;
    let stays = async |why: &str| {
        let refused = lane.clear_away(&owned).await.unwrap_err();
        assert_eq!(refused.class, ErrorClass::Denied, "{refused}");
        assert!(refused.why.contains(why), "{refused}");
        assert_eq!(goldens(&lane, "signed").await.len(), 1);
    };
    let comment: String =
        sqlx::query_scalar("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1")
            .bind(name)
            .fetch_one(&mut superuser)
            .await
            .unwrap();
    sql(&mut superuser, format!("COMMENT ON DATABASE {name} IS 'the accounts'")).await.unwrap();
    stays("its comment is not").await;
    sql(&mut superuser, format!("COMMENT ON DATABASE {name} IS '{comment}'")).await.unwrap();

    sql(&mut superuser, format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    let mut inside = admin(&lane, name).await;
    let marker: String = sqlx::query_scalar("SELECT marker FROM kagero.owner").fetch_one(&mut inside).await.unwrap();
    sql(&mut inside, "UPDATE kagero.owner SET marker = 'mine'".to_owned()).await.unwrap();
    stays("the marker inside").await;
    let mut inside = reopen(&lane, &mut superuser, name).await;
    sql(&mut inside, format!("UPDATE kagero.owner SET marker = '{marker}'")).await.unwrap();
    drop(inside);

    sql(&mut superuser, format!("ALTER DATABASE {name} OWNER TO kagero_ladder_admin")).await.unwrap();
    assert_eq!(goldens(&lane, "signed").await[0].install, None);
    stays("its owner role does not carry").await;
    sql(&mut superuser, format!("ALTER DATABASE {name} OWNER TO kagero_ladder_golden")).await.unwrap();
    let nowhere = start(PostgresConfig { allow: vec![], ..config(home, vec![]) });
    assert_eq!(nowhere.clear_away(&owned).await.unwrap_err().class, ErrorClass::Denied);
    lane.clear_away(&owned).await.unwrap();
    assert_eq!(goldens(&lane, "signed").await, Vec::new());
}

async fn reopen(lane: &PostgresDatabases, superuser: &mut sqlx::PgConnection, name: &str) -> sqlx::PgConnection {
    sql(superuser, format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    admin(lane, name).await
}

#[tokio::test]
async fn a_seed_that_cannot_be_read_makes_every_golden_a_doubt() {
    let home = Home::shared();
    let lane = start(config(home, vec![golden("lost", Path::new("/nonexistent/seed.sql"))]));
    let error = lane.residue().await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/seed.sql"), "{error}");
}

#[tokio::test]
async fn sqlite_files_go_with_their_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("seed.sql");
    let open = |seeds: Vec<_>| {
        let config = SqliteConfig { state_dir: dir.path().to_owned(), install: install(), goldens: seeds, at_once: 1 };
        LocalDatabases::new(None, SqliteDatabases::new(config, Arc::new(SystemClock)))
    };
    let mut made = Vec::new();
    for (pr, text) in [(1, "CREATE TABLE a (b);"), (2, "CREATE TABLE a (b, c);")] {
        std::fs::write(&seed, text).unwrap();
        let lane = open(vec![golden("shop", &seed)]);
        let database = DatabaseSpec { engine: Engine::Sqlite, ..spec(&tags(pr), "shop") };
        ready(&lane, &tags(pr), &database).await;
        made.push(lane);
    }
    let lane = made.pop().unwrap();
    let both = goldens(&lane, "shop").await;
    assert_eq!(uses(&both), [true, false]);
    let (owned, file) = (prove(&both[1]).unwrap(), |name: &str| dir.path().join(format!("goldens/{name}.sqlite")));
    let record = dir.path().join(format!("goldens/{}.owner.json", both[1].name));
    let text = std::fs::read(&record).unwrap();
    // Another's record, and none.
    for other in [Some("{}"), None] {
        match other {
            Some(text) => std::fs::write(&record, text).unwrap(),
            None => std::fs::remove_file(&record).unwrap(),
        }
        assert_eq!(goldens(&lane, "shop").await[1].install, None);
        assert_eq!(lane.clear_away(&owned).await.unwrap_err().class, ErrorClass::Denied);
        assert!(file(&both[1].name).exists());
    }
    std::fs::write(&record, text).unwrap();
    let again = open(vec![]);
    let used = goldens(&again, "shop").await.into_iter().find(|one| one.name == both[0].name).unwrap();
    assert_eq!(
        lane.clear_away(&prove(&used).unwrap()).await.unwrap_err().class,
        ErrorClass::Retry,
        "it is of use here"
    );
    lane.clear_away(&owned).await.unwrap();
    lane.clear_away(&owned).await.unwrap();
    assert_eq!((file(&both[0].name).exists(), file(&both[1].name).exists(), record.exists()), (true, false, false));
    assert_eq!(lane.list().await.unwrap().items.len(), 2, "the databases stay");
}
