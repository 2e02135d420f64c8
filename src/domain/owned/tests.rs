//! Proofs at their edges: exactly the age that counts, exactly the thing that is marked.

use super::*;
use crate::domain::id::{EnvKey, PrNumber, RepoId, ResidueId};
use crate::domain::ledger::Said;
use crate::domain::observed::{DatabaseState, MachineState};

const NOW: Timestamp = Timestamp(1_000_000_000_000);
const KEY: EnvKey = EnvKey { repo: RepoId(1), pr: PrNumber(2) };
const MOMENT: Duration = Duration::from_millis(1);

fn install() -> InstallId {
    InstallId::parse("my-test").unwrap()
}

fn place() -> Location {
    Location { account: "staging".into(), region: "local".into(), network: "host".into() }
}

fn allow() -> AllowList {
    let Location { account, region, network } = place();
    AllowList { accounts: vec![account], regions: vec![region], networks: vec![network] }
}

fn tags() -> Tags {
    Tags { uid: EnvUid::derive(&install(), KEY), install: install(), key: KEY, generation: Generation(2) }
}

fn machine(read_at: Timestamp) -> Machine {
    Machine {
        id: MachineId::parse("i-1").unwrap(),
        name: machine_name(&tags(), 1),
        tags: Some(tags()),
        location: place(),
        state: MachineState::Running,
        agent: None,
        placement: None,
        slot: None,
        read_at,
    }
}

fn database() -> Database {
    Database {
        id: DatabaseId::parse("d-1").unwrap(),
        name: format!("{}d", name_prefix(&install(), '_')),
        tags: Some(tags()),
        location: place(),
        state: DatabaseState::Ready,
        can_stop: true,
        slot: None,
        read_at: NOW,
    }
}

fn owned(read_at: Timestamp) -> Owned<MachineId> {
    let (install, tags) = (install(), tags());
    let claim = Claim { install: &install, uid: &tags.uid, generation: tags.generation };
    prove_machine(&machine(read_at), claim, &allow()).unwrap()
}

fn golden() -> Residue {
    Residue {
        subject: Subject::Golden(ResidueId::parse("golden:1").unwrap()),
        name: format!("{}golden_1", name_prefix(&install(), '_')),
        install: Some(install()),
        uid: None,
        key: None,
        state: ResidueState::Unused("no seed makes it".into()),
        location: place(),
        read_at: NOW,
    }
}

fn old(subject: Subject, tags: Option<Tags>) -> Mark {
    Mark { first_at: NOW.minus(ORPHAN_AGE), sightings: ORPHAN_SIGHTINGS, ..Mark::begin(subject, tags, NOW) }
}

fn record(uid: EnvUid) -> Ledger {
    Ledger {
        key: KEY,
        uid,
        generation: Generation(2),
        hosts: Vec::new(),
        enrolled_at: Timestamp(0),
        standing: Standing::Released(NOW.minus(ORPHAN_AGE)),
        slot: None,
        left: None,
        intents: Vec::new(),
        proven: None,
        said: Said::default(),
    }
}

#[test]
fn a_proof_is_good_for_exactly_as_long_as_its_evidence() {
    let owned = owned(NOW);
    assert_eq!((owned.name(), owned.read_at()), (machine(NOW).name.as_str(), NOW));
    let end = NOW.plus(EVIDENCE_LIFETIME);
    assert!(owned.is_fresh(end));
    assert_eq!(owned.check_age(end), Ok(()));
    assert!(!owned.is_fresh(end.plus(MOMENT)));
    assert!(matches!(owned.check_age(end.plus(MOMENT)), Err(Refusal::Stale { name }) if name == owned.name()));
}

#[test]
fn names_begin_with_the_installation_in_the_separator_of_their_kind() {
    assert_eq!(name_prefix(&install(), '-'), "kagero-my-test-");
    assert_eq!(name_prefix(&install(), '_'), "kagero_my_test_");
}

#[test]
fn an_orphan_needs_its_own_mark_of_exactly_a_day_on_evidence_of_a_minute() {
    let (install, allow) = (install(), allow());
    let prove = |machine: &Machine, mark: &Mark, record: Option<&Ledger>| {
        prove_orphan_machine(machine, Orphan { install: &install, record, mark, now: NOW }, &allow)
    };
    let mark = old(Subject::Machine(machine(NOW).id), Some(tags()));
    assert!(prove(&machine(NOW.minus(EVIDENCE_LIFETIME)), &mark, None).is_ok());
    let stale = prove(&machine(NOW.minus(EVIDENCE_LIFETIME).minus(MOMENT)), &mark, None);
    assert!(matches!(stale, Err(Refusal::Stale { .. })), "{stale:?}");
    let young = Mark { first_at: mark.first_at.plus(MOMENT), ..mark.clone() };
    assert!(matches!(prove(&machine(NOW), &young, None), Err(Refusal::YoungMark { .. })));
    let other = Mark { subject: Subject::Machine(MachineId::parse("i-2").unwrap()), ..mark.clone() };
    assert!(matches!(prove(&machine(NOW), &other, None), Err(Refusal::Unmarked { .. })));
    let retagged = Mark { tags: Some(Tags { generation: Generation(1), ..tags() }), ..mark.clone() };
    assert!(matches!(prove(&machine(NOW), &retagged, None), Err(Refusal::Unmarked { .. })));
    assert!(prove(&machine(NOW), &mark, Some(&record(tags().uid))).is_ok());
    let another = record(EnvUid::derive(&install, EnvKey { pr: PrNumber(3), ..KEY }));
    assert!(matches!(prove(&machine(NOW), &mark, Some(&another)), Err(Refusal::Unmarked { .. })));
}

#[test]
fn the_mark_of_a_machine_is_none_of_a_database() {
    let (install, allow) = (install(), allow());
    let prove = |subject| {
        let mark = old(subject, Some(tags()));
        prove_orphan_database(&database(), Orphan { install: &install, record: None, mark: &mark, now: NOW }, &allow)
    };
    assert!(prove(Subject::Database(database().id)).is_ok());
    assert!(matches!(prove(Subject::Machine(MachineId::parse("d-1").unwrap())), Err(Refusal::Unmarked { .. })));
}

#[test]
fn residue_needs_a_mark_on_itself_and_on_no_environments_thing() {
    let prove = |mark: &Mark| prove_residue(&golden(), &install(), mark, &allow(), NOW);
    let mark = old(golden().subject, None);
    assert_eq!(prove(&mark).unwrap().name(), golden().name);
    let elsewhere = Mark { subject: Subject::Golden(ResidueId::parse("golden:2").unwrap()), ..mark.clone() };
    assert!(matches!(prove(&elsewhere), Err(Refusal::Unmarked { .. })));
    let of_environment = Mark { tags: Some(tags()), ..mark };
    assert!(matches!(prove(&of_environment), Err(Refusal::Unmarked { .. })));
}
