//! Databases' lives on moto's RDS, whose endpoints lead to a real PostgreSQL: restored with no default of the source's,
//! settled before anybody may enter, gone without a rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_rds::types::{DbInstance, MasterUserSecret, Tag};
use kagero::clock::{Clock, SystemClock};
use kagero::cloud::aws::{Golden, Network, RdsDatabases, RdsSettings, Source};
use kagero::cloud::{CloudError, DatabaseBirth, Databases as _, ErrorClass};
use kagero::domain::desired::DatabaseSpec;
use kagero::domain::id::{DatabaseId, Generation, SeedName, SlotId};
use kagero::domain::observed::{Database, DatabaseState, Tags};
use kagero::domain::owned::{Claim, Owned, prove_database};
use kagero::domain::policy::{AllowList, Engine};
use kagero::domain::server_address::Tls;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};

use super::counterpart::{ACCOUNT, REGION, Staging, Wish, install, settings};
use super::strict::Fault;
use crate::postgres::{Postgres, SUPERUSER};
use crate::wait::eventually;

pub(super) const PATIENCE: Duration = Duration::from_mins(1);
const SNAPSHOT: &str = "kagero-golden-shop-20261101";

/// What production's administrator is called, whom every snapshot brings along.
pub(super) const ADMIN: &str = "accounting";

/// RDS with a golden snapshot; behind its endpoints a server that was restored from it.
pub(super) struct Rds {
    pub(super) staging: Staging,
    pub(super) raw: aws_sdk_rds::Client,
    secrets: aws_sdk_secretsmanager::Client,
    pub(super) server: Postgres,
}

pub(super) fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

impl Rds {
    pub(super) async fn start() -> Self {
        Self::start_on("127.0.0.1").await
    }

    /// The same, with the server at these addresses, loopback among them.
    pub(super) async fn start_on(addresses: &'static str) -> Self {
        let staging = Staging::start().await;
        let by_hand = settings(&staging.moto.url).await;
        let raw = aws_sdk_rds::Client::new(&by_hand);
        let secrets = aws_sdk_secretsmanager::Client::new(&by_hand);
        let subnets = staging.ec2.describe_subnets().send().await.unwrap();
        let ours = subnets.subnets().iter().filter(|subnet| subnet.vpc_id() == Some(&staging.vpc));
        let ids: Vec<String> = ours.filter_map(|subnet| subnet.subnet_id().map(str::to_owned)).collect();
        let group = raw.create_db_subnet_group().db_subnet_group_name("kagero-dev").db_subnet_group_description("x");
        group.set_subnet_ids(Some(ids)).send().await.unwrap();
        let parameters = raw.create_db_parameter_group().db_parameter_group_name("kagero-dev-postgres16");
        parameters.db_parameter_group_family("postgres16").description("x").send().await.unwrap();
        // The source is everything that a copy must not be.
        raw.create_db_instance()
            .db_instance_identifier("production")
            .db_instance_class("db.m7g.large")
            .engine("postgres")
            .engine_version("16.4")
            .db_name("shop")
            .master_username(ADMIN)
            .master_user_password("the password of production")
            .allocated_storage(20)
            .storage_encrypted(true)
            .backup_retention_period(30)
            .publicly_accessible(true)
            .copy_tags_to_snapshot(true)
            .tags(tag("env", "production"))
            .send()
            .await
            .unwrap();
        snapshot(&raw, SNAPSHOT, &[("kagero:sanitized", "true"), ("kagero:install", "dev")]).await;
        let server = restored(addresses).await;
        staging.strict.lead_databases_to("127.0.0.1", server.port);
        Self { staging, raw, secrets, server }
    }

    pub(super) async fn lane(&self) -> RdsDatabases {
        self.lane_from(Source::Snapshots("kagero-golden-shop-".to_owned())).await
    }

    pub(super) async fn lane_from(&self, source: Source) -> RdsDatabases {
        self.lane_of(source, self.staging.network().await, 20, Arc::new(SystemClock))
    }

    /// From snapshots, in that network, with so many on a page, by that clock.
    pub(super) fn lane_by(&self, network: Network, page: i32, clock: Arc<dyn Clock>) -> RdsDatabases {
        self.lane_of(Source::Snapshots("kagero-golden-shop-".to_owned()), network, page, clock)
    }

    fn lane_of(&self, source: Source, network: Network, page: i32, clock: Arc<dyn Clock>) -> RdsDatabases {
        let golden = Golden {
            source,
            max_age: Duration::from_hours(24 * 14),
            class: "db.t4g.micro".to_owned(),
            database: "shop".to_owned(),
        };
        let settings = RdsSettings {
            install: install(),
            vpc: self.staging.vpc.clone(),
            subnet_group: "kagero-dev".to_owned(),
            parameter_group: "kagero-dev".to_owned(),
            goldens: BTreeMap::from([(seed(), golden)]),
            key: None,
            secret: "a secret of the tests".into(),
            tls: Tls::disabled(),
            page,
        };
        RdsDatabases::new(self.staging.aws.clone(), settings, network, clock)
    }

    pub(super) fn allowed(&self) -> AllowList {
        AllowList {
            accounts: vec![ACCOUNT.to_owned()],
            regions: vec![REGION.to_owned()],
            networks: vec![self.staging.vpc.clone()],
        }
    }

    pub(super) async fn instance(&self, name: &str) -> Option<DbInstance> {
        let found = self.raw.describe_db_instances().db_instance_identifier(name.replace('_', "-")).send().await;
        found.ok()?.db_instances?.into_iter().next()
    }

    /// What RDS does by itself: the server's administrator has the password that was made at the restore.
    pub(super) async fn rotate(&self, name: &str) {
        let instance = self.instance(name).await.unwrap();
        self.let_in(instance.master_user_secret().unwrap()).await;
    }

    /// The same for every database that has a password of its own.
    pub(super) async fn rotate_all(&self) {
        let all = self.raw.describe_db_instances().send().await.unwrap();
        for secret in all.db_instances().iter().filter_map(DbInstance::master_user_secret) {
            self.let_in(secret).await;
        }
    }

    /// The server's administrator has the password of that secret from now on.
    pub(super) async fn let_in(&self, secret: &MasterUserSecret) {
        let arn = secret.secret_arn().unwrap().to_owned();
        let kept = self.secrets.get_secret_value().secret_id(arn).send().await.unwrap();
        let kept: serde_json::Value = serde_json::from_str(kept.secret_string().unwrap()).unwrap();
        let password = kept["password"].as_str().unwrap().replace('\'', "''");
        let mut superuser = self.superuser("postgres").await;
        superuser.execute(sqlx::AssertSqlSafe(format!("ALTER ROLE {ADMIN} PASSWORD '{password}'"))).await.unwrap();
    }

    pub(super) async fn superuser(&self, database: &str) -> PgConnection {
        connect(self.server.port, SUPERUSER, None, database).await.unwrap()
    }
}

pub(super) fn seed() -> SeedName {
    SeedName::parse("golden").unwrap()
}

async fn snapshot(raw: &aws_sdk_rds::Client, name: &str, tags: &[(&str, &str)]) {
    let tags = tags.iter().map(|(key, value)| tag(key, value)).collect();
    let request = raw.create_db_snapshot().db_instance_identifier("production").db_snapshot_identifier(name);
    request.set_tags(Some(tags)).send().await.unwrap();
}

async fn connect(port: u16, user: &str, password: Option<&str>, database: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username(user).database(database);
    PgConnection::connect_with(&password.iter().fold(options, |options, password| options.password(password))).await
}

/// A server as a snapshot of production's brings it: an administrator who is no superuser, logins with passwords, tables of
/// two owners, a second database that anybody may enter.
async fn restored(addresses: &'static str) -> Postgres {
    let server = Postgres::start_on(addresses).await;
    let mut superuser = connect(server.port, SUPERUSER, None, "postgres").await.unwrap();
    // Everybody else needs a password.
    let rules = format!("host all {SUPERUSER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    let file: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut superuser).await.unwrap();
    std::fs::write(file, rules).unwrap();
    superuser.execute("SELECT pg_reload_conf()").await.unwrap();
    for statement in [
        "CREATE ROLE accounting LOGIN CREATEDB CREATEROLE PASSWORD 'the password of production'",
        "CREATE ROLE web LOGIN PASSWORD 'web of production'",
        "CREATE ROLE rdsadmin LOGIN PASSWORD 'the service'",
        "CREATE ROLE rds_reporting LOGIN PASSWORD 'reports of production'",
        "CREATE DATABASE shop OWNER accounting",
        "CREATE DATABASE reports OWNER accounting",
    ] {
        superuser.execute(statement).await.unwrap();
    }
    let mut shop = connect(server.port, SUPERUSER, None, "shop").await.unwrap();
    for statement in [
        "CREATE TABLE orders (id int PRIMARY KEY, total int); INSERT INTO orders VALUES (1, 100), (2, 200)",
        "ALTER TABLE orders OWNER TO accounting",
        "GRANT CREATE ON SCHEMA public TO web; CREATE SCHEMA stock AUTHORIZATION web",
        "CREATE TABLE stock.items (id serial PRIMARY KEY); ALTER TABLE stock.items OWNER TO web",
        "CREATE SCHEMA vault AUTHORIZATION accounting; GRANT CREATE, USAGE ON SCHEMA vault TO web",
        "SET ROLE web; CREATE FUNCTION vault.hush() RETURNS int LANGUAGE sql AS 'SELECT 1'; RESET ROLE",
        "GRANT CREATE ON DATABASE shop TO web",
        "SET ROLE web; CREATE PUBLICATION items FOR TABLE stock.items; RESET ROLE",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    ] {
        shop.execute(statement).await.unwrap();
    }
    server
}

pub(super) struct Asked {
    pub(super) tags: Tags,
    pub(super) spec: DatabaseSpec,
    pub(super) slot: SlotId,
}

impl Asked {
    pub(super) async fn of(pr: u64, rds: &Rds) -> Self {
        Self::in_network(pr, &rds.staging.network().await)
    }

    pub(super) fn in_network(pr: u64, network: &Network) -> Self {
        let Wish { tags, slot, .. } = Wish::of(pr, network);
        let name = format!("kagero_dev_{}_g1", tags.uid);
        Self { tags, slot, spec: DatabaseSpec { name, engine: Engine::Postgres, seed: seed() } }
    }

    pub(super) fn birth(&self) -> DatabaseBirth<'_> {
        DatabaseBirth { tags: &self.tags, database: &self.spec, slot: Some(&self.slot) }
    }
}

pub(super) async fn found(lane: &RdsDatabases, asked: &Asked) -> Option<Database> {
    let listing = lane.list().await.unwrap();
    assert!(listing.complete);
    listing.items.into_iter().find(|database| database.name == asked.spec.name)
}

async fn ready(rds: &Rds, lane: &RdsDatabases, asked: &Asked) -> Database {
    in_turn(async || lane.prepare(asked.birth()).await).await;
    assert_eq!(found(lane, asked).await.unwrap().state, DatabaseState::Preparing, "not before it is settled");
    rds.rotate(&asked.spec.name).await;
    eventually("it is ready", PATIENCE, async || match found(lane, asked).await {
        Some(database) if database.state == DatabaseState::Ready => Ok(database),
        other => Err(format!("{other:?}")),
    })
    .await
}

/// What is done as soon as our share of the account's limit on calls allows.
pub(super) async fn in_turn<T: std::fmt::Debug>(call: impl AsyncFn() -> Result<T, CloudError>) -> T {
    eventually("its turn", PATIENCE, async || match call().await {
        Err(error) if matches!(error.class, ErrorClass::SlowDown(_)) => Err(error.to_string()),
        done => Ok(done.unwrap()),
    })
    .await
}

/// What is refused for another reason than that it came too soon.
pub(super) async fn refused_in_turn<T>(call: impl AsyncFn() -> Result<T, CloudError>) -> CloudError {
    eventually("it is refused", PATIENCE, async || match call().await {
        Err(error) if matches!(error.class, ErrorClass::SlowDown(_)) => Err(error.to_string()),
        Err(error) => Ok(error),
        Ok(_) => panic!("it was not refused"),
    })
    .await
}

pub(super) fn prove(rds: &Rds, database: &Database) -> Owned<DatabaseId> {
    let tags = database.tags.clone().unwrap();
    let install = install();
    let claim = Claim { install: &install, uid: &tags.uid, generation: Generation::FIRST };
    prove_database(database, claim, &rds.allowed()).unwrap()
}

/// Nothing of the source's settings is taken over. moto takes nothing and "no" for "not said", and keeps its source's: what
/// counts is what was said.
pub(super) fn assert_safe(said: &BTreeMap<String, String>) {
    for (key, value) in [
        ("BackupRetentionPeriod", "0"),
        ("PubliclyAccessible", "false"),
        ("DeletionProtection", "false"),
        ("CopyTagsToSnapshot", "false"),
        ("AutoMinorVersionUpgrade", "false"),
        ("EnableIAMDatabaseAuthentication", "false"),
        ("MultiAZ", "false"),
        ("ManageMasterUserPassword", "true"),
    ] {
        assert_eq!(said.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[tokio::test]
async fn a_golden_instance_is_restored_to_its_newest_point_in_time() {
    let rds = Rds::start().await;
    let lane = rds.lane_from(Source::Instance("kagero-golden-shop".to_owned())).await;
    let asked = Asked::of(1, &rds).await;
    let refused = refused_in_turn(async || lane.prepare(asked.birth()).await).await;
    assert!(refused.class == ErrorClass::Denied && refused.why.contains("no instance kagero-golden-shop"), "{refused}");

    let golden = |sanitized: &str| {
        rds.raw
            .create_db_instance()
            .db_instance_identifier("kagero-golden-shop")
            .db_instance_class("db.t4g.micro")
            .engine("postgres")
            .engine_version("16.4")
            .db_name("shop")
            .master_username(ADMIN)
            .master_user_password("the password of the golden one")
            .allocated_storage(20)
            .storage_encrypted(true)
            .backup_retention_period(1)
            .tags(tag("kagero:sanitized", sanitized))
            .tags(tag("kagero:install", "dev"))
            .tags(tag("kagero:sanitized-at", "2026-11-01T00:00:00Z"))
            .send()
    };
    golden("false").await.unwrap();
    let refused = refused_in_turn(async || lane.prepare(asked.birth()).await).await;
    assert!(refused.class == ErrorClass::Denied && refused.why.contains("kagero:sanitized=true"), "{refused}");
    assert_eq!(rds.staging.strict.count("RestoreDBInstanceToPointInTime"), 0);
    rds.raw
        .delete_db_instance()
        .db_instance_identifier("kagero-golden-shop")
        .skip_final_snapshot(true)
        .send()
        .await
        .unwrap();
    golden("true").await.unwrap();

    let database = ready(&rds, &lane, &asked).await;
    let said = rds.staging.strict.last("RestoreDBInstanceToPointInTime");
    assert_safe(&said);
    assert!(said["RestoreTime"].starts_with("20"), "the time whose data was seen to be masked: {said:?}");
    assert_eq!(said["SourceDBInstanceIdentifier"], "kagero-golden-shop");
    let raw = rds.instance(&asked.spec.name).await.unwrap();
    assert!(raw.tag_list().iter().all(|tag| tag.key() != Some("kagero:sanitized")), "{:?}", raw.tag_list());
    in_turn(async || lane.delete(&prove(&rds, &database)).await).await;
    assert_eq!(found(&lane, &asked).await, None);
    assert!(rds.instance("kagero-golden-shop").await.is_some(), "the golden one stands");
}

#[tokio::test]
async fn a_database_is_restored_without_anything_of_its_source_and_goes_without_a_rest() {
    let rds = Rds::start().await;
    let (lane, asked) = (rds.lane().await, Asked::of(1, &rds).await);
    let database = ready(&rds, &lane, &asked).await;
    assert_eq!((database.tags.as_ref(), database.slot.as_ref()), (Some(&asked.tags), Some(&asked.slot)));

    let raw = rds.instance(&asked.spec.name).await.unwrap();
    assert_eq!(raw.db_instance_class(), Some("db.t4g.micro"));
    assert_eq!(raw.storage_encrypted(), Some(true));
    assert_safe(&rds.staging.strict.last("RestoreDBInstanceFromDBSnapshot"));
    assert_eq!(
        raw.vpc_security_groups().iter().filter_map(|one| one.vpc_security_group_id()).collect::<Vec<_>>(),
        [asked.slot.as_str()]
    );
    assert_eq!(raw.db_parameter_groups()[0].db_parameter_group_name(), Some("kagero-dev-postgres16"));
    assert!(raw.tag_list().iter().all(|tag| tag.key() != Some("env")), "{:?}", raw.tag_list());

    assert_eq!(in_turn(async || lane.prepare(asked.birth()).await).await, database.id, "asked for again");
    in_turn(async || lane.delete(&prove(&rds, &database)).await).await;
    assert_eq!(found(&lane, &asked).await, None);
    in_turn(async || lane.delete(&prove(&rds, &database)).await).await;
    assert_eq!(rds.staging.strict.count("DeleteDBInstance"), 1);
    let left = rds.raw.describe_db_snapshots().snapshot_type("manual").send().await.unwrap();
    let names: Vec<&str> = left.db_snapshots().iter().filter_map(|one| one.db_snapshot_identifier()).collect();
    assert_eq!(names, [SNAPSHOT], "no final snapshot, and no snapshot was touched");
}

#[tokio::test]
async fn a_database_that_is_stopped_is_started_when_it_is_asked_for_again() {
    let rds = Rds::start().await;
    let (lane, asked) = (rds.lane().await, Asked::of(1, &rds).await);
    let database = ready(&rds, &lane, &asked).await;
    assert!(database.can_stop);
    in_turn(async || lane.stop(&prove(&rds, &database)).await).await;
    let stopped = found(&lane, &asked).await.unwrap();
    assert_eq!(stopped.state, DatabaseState::Stopped);
    in_turn(async || lane.stop(&prove(&rds, &stopped)).await).await;
    assert_eq!(rds.staging.strict.count("StopDBInstance"), 1, "what is stopped is not stopped again");

    assert_eq!(in_turn(async || lane.prepare(asked.birth()).await).await, database.id);
    assert_eq!(found(&lane, &asked).await.unwrap().state, DatabaseState::Ready);
    assert_eq!(in_turn(async || lane.prepare(asked.birth()).await).await, database.id);
    assert_eq!(rds.staging.strict.count("StartDBInstance"), 1);

    let mut stolen = found(&lane, &asked).await.unwrap();
    stolen.id = DatabaseId::parse("rds:db-SOMEBODYELSES").unwrap();
    let stolen = prove(&rds, &stolen);
    let refused = refused_in_turn(async || lane.stop(&stolen).await).await;
    assert_eq!(refused.class, ErrorClass::Denied, "{refused}");
    let owned = prove(&rds, &found(&lane, &asked).await.unwrap());
    in_turn(async || lane.stop(&owned).await).await;
    in_turn(async || lane.delete(&owned).await).await;
    assert_eq!(found(&lane, &asked).await, None);
}

#[tokio::test]
async fn nobody_whom_the_snapshot_knew_gets_in_and_the_environment_gets_no_further_than_its_data() {
    let rds = Rds::start().await;
    let (lane, asked) = (rds.lane().await, Asked::of(1, &rds).await);
    ready(&rds, &lane, &asked).await;
    let port = rds.server.port;
    for (user, password) in [
        ("web", "web of production"),
        ("rds_reporting", "reports of production"),
        (ADMIN, "the password of production"),
    ] {
        assert!(
            connect(port, user, Some(password), "shop").await.is_err(),
            "{user} gets in with production's password"
        );
    }

    let access = lane.access(&asked.spec).await.unwrap();
    let mut app = PgConnection::connect(&access.application_url).await.unwrap();
    app.execute("INSERT INTO orders VALUES (3, 300); INSERT INTO stock.items DEFAULT VALUES").await.unwrap();
    for forbidden in [
        "DROP TABLE orders",
        "CREATE TABLE public.mine (id int)",
        "DROP DATABASE shop",
        "CREATE ROLE me LOGIN",
        "ALTER ROLE accounting PASSWORD 'x'",
        "SET ROLE accounting",
        "DELETE FROM kagero.owner",
    ] {
        assert!(app.execute(forbidden).await.is_err(), "the application may: {forbidden}");
    }
    let mut migration = PgConnection::connect(&access.migration_url).await.unwrap();
    migration.execute("ALTER TABLE orders ADD COLUMN note text; ALTER TABLE stock.items ADD x int").await.unwrap();
    migration.execute("CREATE TABLE public.later (id int)").await.unwrap();
    app.execute("SELECT note FROM orders; INSERT INTO public.later VALUES (1)").await.unwrap();
    for forbidden in ["DROP DATABASE reports", "CREATE DATABASE mine", "CREATE ROLE me", "DELETE FROM kagero.owner"] {
        assert!(migration.execute(forbidden).await.is_err(), "migrations may: {forbidden}");
    }
    for url in [&access.application_url, &access.migration_url] {
        let elsewhere = url.replace("/shop?", "/reports?");
        assert_ne!(&elsewhere, url);
        assert!(PgConnection::connect(&elsewhere).await.is_err(), "another database can be entered");
    }
    let mut superuser = rds.superuser("shop").await;
    let owners: Vec<(String, String)> = sqlx::query_as(
        "SELECT d.datname::text, r.rolname::text FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba \
         WHERE d.datname IN ('shop', 'reports') AND r.rolcanlogin AND r.rolname LIKE 'kagero%'",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert_eq!(owners, [], "a role that can log in owns a database, and could drop it");

    // Another replica, or this one after a restart, finds it settled, and what was written stays.
    let again = rds.lane().await;
    eventually("it is found ready", PATIENCE, async || {
        found(&again, &asked).await.is_some_and(|database| database.state == DatabaseState::Ready)
    })
    .await;
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut app).await.unwrap();
    assert_eq!(orders, 3);
}

#[tokio::test]
async fn only_a_masked_young_snapshot_of_ours_is_restored() {
    let rds = Rds::start().await;
    let (lane, asked) = (rds.lane().await, Asked::of(1, &rds).await);
    rds.raw.delete_db_snapshot().db_snapshot_identifier(SNAPSHOT).send().await.unwrap();
    let refused = async || -> CloudError { refused_in_turn(async || lane.prepare(asked.birth()).await).await };
    let none = refused().await;
    assert_eq!(none.class, ErrorClass::Denied);
    assert!(none.why.contains("no snapshot whose name begins with kagero-golden-shop-"), "{none}");
    snapshot(&rds.raw, "kagero-golden-shop-2", &[("kagero:install", "dev")]).await;
    let unmasked = refused().await;
    assert!(unmasked.why.contains("kagero-golden-shop-2 lacks the tag kagero:sanitized=true"), "{unmasked}");
    assert_eq!(rds.staging.strict.count("RestoreDBInstanceFromDBSnapshot"), 0);
}

#[tokio::test]
async fn what_is_not_the_environments_is_neither_taken_over_nor_deleted() {
    let rds = Rds::start().await;
    let (lane, asked) = (rds.lane().await, Asked::of(1, &rds).await);
    let database = ready(&rds, &lane, &asked).await;
    let owned = prove(&rds, &database);
    let arn = rds.instance(&asked.spec.name).await.unwrap().db_instance_arn().unwrap().to_owned();

    // Somebody switches protection on.
    let identifier = asked.spec.name.replace('_', "-");
    let protect = rds.raw.modify_db_instance().db_instance_identifier(&identifier).deletion_protection(true);
    protect.apply_immediately(true).send().await.unwrap();
    let refused = refused_in_turn(async || lane.delete(&owned).await).await;
    assert!(refused.class == ErrorClass::Denied && refused.why.contains("switch it off by hand"), "{refused}");
    let release = rds.raw.modify_db_instance().db_instance_identifier(&identifier).deletion_protection(false);
    release.apply_immediately(true).send().await.unwrap();

    // Somebody changes its tags.
    let other = tag("kagero:uid", "0123456789abcdef0123");
    rds.raw.add_tags_to_resource().resource_name(&arn).tags(other).send().await.unwrap();
    let refused = refused_in_turn(async || lane.delete(&owned).await).await;
    assert!(refused.class == ErrorClass::Denied && refused.why.contains("by hand"), "{refused}");
    let refused = refused_in_turn(async || lane.prepare(asked.birth()).await).await;
    assert!(
        refused.class == ErrorClass::Denied && refused.why.contains("tags are not this environment's"),
        "{refused}"
    );
    assert_eq!(rds.staging.strict.count("DeleteDBInstance"), 0);
    assert!(rds.instance(&asked.spec.name).await.is_some());
}

#[tokio::test]
async fn a_lost_answer_does_not_double_a_database() {
    let rds = Rds::start().await;
    let (lane, asked) = (rds.lane().await, Asked::of(1, &rds).await);
    rds.staging.strict.next("RestoreDBInstanceFromDBSnapshot", Fault::Lost);
    assert_eq!(refused_in_turn(async || lane.prepare(asked.birth()).await).await.class, ErrorClass::Ambiguous);
    in_turn(async || lane.prepare(asked.birth()).await).await;
    let all = rds.raw.describe_db_instances().send().await.unwrap();
    assert_eq!(all.db_instances().len(), 2, "production's and this one");
    // Every page of the Region is read, and production's is none of ours.
    assert_eq!(lane.list().await.unwrap().items.len(), 1);
    rds.staging.strict.next("DescribeDBInstances", Fault::Html);
    assert!(lane.list().await.is_err());
}
