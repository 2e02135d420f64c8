//! What sweeps remember, and brakes, on both databases.

use std::time::Duration;

use kagero::domain::brake::{Brake, BrakeKind, SetBy};
use kagero::domain::id::{EnvUid, Generation, InstallId, MachineId};
use kagero::domain::mark::{Mark, Subject};
use kagero::domain::observed::Tags;
use kagero::domain::time::Timestamp;
use kagero::plan::sweep::Counts;
use kagero::store::JournalCheck;

use super::place::on_both;
use super::{NOW, key};

fn mark(pr: u64) -> Mark {
    let install = InstallId::parse("test").unwrap();
    let tags = Tags { uid: EnvUid::derive(&install, key(pr)), install, key: key(pr), generation: Generation::FIRST };
    Mark::begin(Subject::Machine(MachineId::parse(format!("m{pr}")).unwrap()), tags, NOW)
}

#[tokio::test]
async fn marks_counts_and_removals_are_kept() {
    on_both(async |place| {
        let store = place.open().await;
        let later = NOW.plus(Duration::from_mins(40));
        store.put_sweep_marks(&[mark(1), mark(2)], &[]).await.unwrap();
        let again = mark(2).again(later);
        store.put_sweep_marks(std::slice::from_ref(&again), &[mark(1).subject]).await.unwrap();
        store.note_sweep_removal(&mark(1).subject, NOW, Duration::from_hours(1)).await.unwrap();
        store.note_sweep_removal(&mark(2).subject, later, Duration::from_hours(1)).await.unwrap();
        let counts = Counts { machines: Some(3), databases: None, at: NOW };
        store.put_last_sweep(&counts).await.unwrap();
        store.close().await;

        let store = place.open().await;
        assert_eq!(store.sweep_marks().await.unwrap(), [again]);
        assert_eq!(store.last_sweep::<Counts>().await.unwrap(), Some(counts));
        let removed = async |at: Timestamp| store.sweep_removals(at, Duration::from_hours(1)).await.unwrap();
        assert_eq!((removed(later).await, removed(later.plus(Duration::from_mins(30))).await), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_brake_holds_until_its_end_and_stands_in_the_journal() {
    on_both(async |place| {
        let store = place.open().await;
        let brake = |kind, key, minutes| Brake {
            kind,
            key,
            reason: "an incident".to_owned(),
            by: SetBy::Operator,
            at: NOW,
            until: NOW.plus(Duration::from_mins(minutes)),
        };
        let hold = brake(BrakeKind::Hold, Some(key(7)), 10);
        let freeze = brake(BrakeKind::Freeze, None, 60);
        store.set_brake(&brake(BrakeKind::Hold, Some(key(7)), 1)).await.unwrap();
        store.set_brake(&hold).await.unwrap();
        store.set_brake(&freeze).await.unwrap();
        assert_eq!(store.brakes(NOW).await.unwrap(), [freeze.clone(), hold.clone()]);
        assert_eq!(store.brakes(hold.until).await.unwrap(), std::slice::from_ref(&freeze));
        assert!(!store.lift_brake(BrakeKind::Hold, Some(key(7)), hold.until).await.unwrap(), "its time was over");
        assert!(store.lift_brake(BrakeKind::Freeze, None, NOW).await.unwrap());
        assert!(!store.lift_brake(BrakeKind::Freeze, None, NOW).await.unwrap());
        let rows = store.journal(key(7), 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>(), ["hold", "hold"]);
        assert!(rows.iter().all(|row| row.ended.as_ref().is_some_and(|(how, _)| how == "ok")), "{rows:?}");
        assert_eq!(store.verify_journal().await.unwrap(), JournalCheck::Intact(8));
    })
    .await;
}
