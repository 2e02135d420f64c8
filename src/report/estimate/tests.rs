//! Sums and quotas, against numbers that were reckoned by hand.

use super::*;

fn outline() -> Outline {
    Outline {
        environments: 20,
        region: "us-east-1".to_owned(),
        instance_types: vec!["t4g.small".to_owned()],
        volume: 20,
        classes: vec!["db.t4g.micro".to_owned()],
        clusters: false,
        volumes: true,
        storage: 20,
        hours: 24,
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// To a hundredth of a cent.
fn shown(price: Option<f64>) -> String {
    price.map_or("none".to_owned(), |price| format!("{price:.4}"))
}

fn quota(estimate: &Estimate, code: &str) -> (Option<u64>, Option<u64>) {
    let quota = estimate.quotas.iter().find(|quota| quota.code == code).unwrap();
    (quota.needed, quota.ask)
}

#[test]
fn an_environment_pays_for_all_while_it_runs_and_for_storage_while_it_sleeps() {
    let estimate = estimate(&outline());
    // 0.0168 + 20 × 0.08 / 730 + 0.016 + 20 × 0.115 / 730
    assert_eq!((shown(estimate.one.running), shown(estimate.one.asleep)), ("0.0381".to_owned(), "0.0053".to_owned()));
    assert_eq!((shown(estimate.all.running), shown(estimate.all.asleep)), ("0.7628".to_owned(), "0.1068".to_owned()));
    assert_eq!(format!("{:.2}", estimate.one.month.unwrap()), "27.84");
}

#[test]
fn hours_a_day_count_for_environments_and_not_for_what_stands_there() {
    let whole = estimate(&outline());
    let half = estimate(&Outline { hours: 12, ..outline() });
    // (0.03814 + 0.00534) / 2 × 730
    assert_eq!(format!("{:.2}", half.one.month.unwrap()), "15.87");
    assert_eq!((half.one.running, half.standing), (whole.one.running, whole.standing));
    let never = estimate(&Outline { hours: 0, ..outline() });
    assert_eq!(shown(never.one.month), shown(never.one.asleep.map(|hour| hour * 730.0)));
}

#[test]
fn what_stands_there_costs_what_the_page_for_operators_says() {
    let page = include_str!("../../../infra/README.md");
    let standing = format!("{:.3}", estimate(&outline()).standing.running.unwrap());
    assert!(page.contains(&format!("| **all** | | | **{standing}** |")), "infra/README.md, Costs: {standing}");
}

#[test]
fn what_has_no_price_makes_no_sum_and_is_named() {
    let machine = estimate(&Outline { instance_types: names(&["x9.large"]), ..outline() });
    assert_eq!((machine.one.running, machine.all.month, machine.total.running), (None, None, None));
    assert_eq!(shown(machine.one.asleep), "0.0053", "storage is paid whatever the type is");
    assert!(machine.standing.running.is_some());
    assert!(machine.notes[0].contains("x9.large") && machine.notes[0].contains("look it up"), "{:?}", machine.notes);
    assert_eq!(quota(&machine, "L-1216C47A"), (None, None), "its vCPUs are not known either");

    // It may be dearer than the one that is known.
    let database = estimate(&Outline { classes: names(&["db.x9.large", "db.t4g.micro"]), ..outline() });
    assert_eq!((database.environment[2].what.as_str(), database.one.running), ("db.x9.large", None));
}

#[test]
fn the_dearest_class_counts_and_without_classes_there_is_no_database() {
    let two = estimate(&Outline { classes: names(&["db.t4g.large", "db.t4g.micro"]), ..outline() });
    assert_eq!(two.environment[2].what, "db.t4g.large");
    let none = estimate(&Outline { classes: Vec::new(), volumes: false, ..outline() });
    assert_eq!(none.environment.len(), 2);
    assert_eq!(quota(&none, "L-7B6409FD"), (Some(1), None), "the store alone");
    assert_eq!(quota(&none, "L-DF5E4CA3"), (Some(40), None));
}

#[test]
fn clusters_are_reckoned_with_at_their_most_and_have_a_quota_of_their_own() {
    let clusters =
        estimate(&Outline { classes: names(&["db.serverless"]), clusters: true, volumes: false, ..outline() });
    // Four capacity units.
    assert_eq!(shown(clusters.environment[2].running), "0.4800");
    assert!(clusters.notes.iter().any(|note| note.contains("at the most")), "{:?}", clusters.notes);
    assert_eq!(quota(&clusters, "L-952B80B9"), (Some(21), None), "and the golden one");
    assert_eq!(clusters.environment.len(), 3, "a cluster's storage is not reserved");
    assert_eq!(quota(&clusters, "L-7ADDB58A"), (Some(u64::from(fixed::STORE_STORAGE)), None), "the store's alone");
    assert_eq!(quota(&estimate(&outline()), "L-952B80B9"), (Some(0), None));
    let many = estimate(&Outline { environments: 60, clusters: true, ..outline() });
    assert_eq!(quota(&many, "L-952B80B9"), (Some(61), Some(70)));
}

#[test]
fn quotas_are_asked_for_where_they_are_too_small_with_room_to_spare() {
    let some = estimate(&Outline { instance_types: names(&["t4g.small", "t4g.xlarge"]), ..outline() });
    // 20 × 4 of the larger type and 2 of the controller.
    assert_eq!(quota(&some, "L-1216C47A"), (Some(82), Some(100)));
    assert_eq!(quota(&some, "L-7B6409FD"), (Some(22), None));
    let many = estimate(&Outline { environments: 3_000, volume: 100, ..outline() });
    assert_eq!(quota(&many, "L-7B6409FD"), (Some(3_002), Some(3_310)));
    assert_eq!(quota(&many, "L-7A658B76"), (Some(293), Some(330)));
    assert_eq!(quota(&many, "L-DF5E4CA3"), (Some(6_020), Some(6_630)));
    assert_eq!(quota(&many, "L-E79EC296"), (Some(3_009), Some(3_310)));
    let exactly = estimate(&Outline { environments: 38, ..outline() });
    assert_eq!(quota(&exactly, "L-7B6409FD"), (Some(40), None), "a quota may be used up");
}

#[test]
fn slots_come_in_series() {
    let slots = |environments| estimate(&Outline { environments, ..outline() }).slots;
    assert_eq!(slots(1), Slots { needed: 1, deploy: Some(20) });
    assert_eq!(slots(21), Slots { needed: 21, deploy: Some(40) });
    assert_eq!(slots(201), Slots { needed: 201, deploy: None });
}

#[test]
fn what_an_operator_has_to_look_up_is_said() {
    let elsewhere = Outline {
        region: "eu-central-1".to_owned(),
        instance_types: names(&["t4g.small", "t4g.medium", "x9.large"]),
        ..outline()
    };
    let notes = estimate(&elsewhere).notes.join("\n");
    for part in ["those of eu-central-1 are others", "t4g.medium is taken, for 0.0336", "x9.large is taken; its price"]
    {
        assert!(notes.contains(part), "{part} is missing in {notes}");
    }
}
