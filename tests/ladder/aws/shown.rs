//! How AWS shows what was just asked for: not at once, then as something that comes up, and what is deleted as something that
//! goes (EC2 user guide, "Eventual consistency"; RDS user guide, "Viewing Amazon RDS DB instance status"). moto shows
//! everything as it will be in the end.
//!
//! Guarantees: nothing but the answers of listings is changed, and only what a test has asked for.
//! Must not know: who asks.

use std::collections::BTreeMap;

use super::strict::between;

/// How far AWS is with what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown {
    /// Everything is as it will be in the end.
    #[default]
    Done,
    /// What was asked for comes up, and what was deleted goes.
    UnderWay,
    /// What was asked for is not shown yet, and what was deleted goes.
    NotYet,
}

/// What listings are told by, kept from the calls before.
#[derive(Debug, Default)]
pub struct Lag {
    /// How far AWS is.
    pub shown: Shown,
    /// What was asked for while it was not done: ids of instances, identifiers of databases.
    pending: Vec<String>,
    /// What databases were described as before they were deleted.
    deleted: BTreeMap<String, String>,
}

/// The text in pieces: what is between those two, with both, is a piece of its own, nested ones inside it.
fn pieces<'a>(text: &'a str, open: &str, close: &str) -> Vec<(bool, &'a str)> {
    let (mut all, mut rest) = (Vec::new(), text);
    while let Some(begin) = rest.find(open) {
        all.push((false, &rest[..begin]));
        rest = &rest[begin..];
        let (mut depth, mut end) = (0, 0);
        loop {
            let next_close = rest[end..].find(close).unwrap_or_else(|| panic!("{open} is not closed"));
            let next_open = rest[end..].find(open).filter(|at| *at < next_close);
            (depth, end) = next_open
                .map_or_else(|| (depth - 1, end + next_close + close.len()), |at| (depth + 1, end + at + open.len()));
            if depth == 0 {
                break;
            }
        }
        all.push((true, &rest[..end]));
        rest = &rest[end..];
    }
    all.push((false, rest));
    all
}

impl Lag {
    /// A call was made, with that answer.
    pub fn note(&mut self, action: &str, form: &BTreeMap<String, String>, answer: &str) {
        if self.shown == Shown::Done {
            return;
        }
        match action {
            "RunInstances" => self.pending.extend(between(answer, "<instanceId>", "<").map(str::to_owned)),
            "RestoreDBInstanceFromDBSnapshot" | "RestoreDBInstanceToPointInTime" | "CreateDBInstance" => {
                self.pending
                    .extend(form.get("DBInstanceIdentifier").or(form.get("TargetDBInstanceIdentifier")).cloned());
            }
            "DeleteDBInstance" => {
                // The answer describes it once more.
                let described = between(answer, "<DBInstance>", "</DBInstance>").unwrap_or_default();
                self.deleted.insert(form["DBInstanceIdentifier"].clone(), described.to_owned());
            }
            _ => {}
        }
    }

    /// From now on.
    pub fn show(&mut self, shown: Shown) {
        self.shown = shown;
        if shown == Shown::Done {
            self.pending.clear();
            self.deleted.clear();
        }
    }

    /// Whether anything is shown otherwise than it is.
    pub fn is_told(&self) -> bool {
        self.shown != Shown::Done
    }

    /// A listing as AWS would answer now.
    pub fn told(&self, action: &str, text: &str) -> String {
        if self.shown == Shown::Done {
            return text.to_owned();
        }
        match action {
            "DescribeInstances" => self.instances(text),
            "DescribeDBInstances" => self.databases(text),
            _ => text.to_owned(),
        }
    }

    fn is_pending(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| self.pending.iter().any(|known| known == id))
    }

    fn instances(&self, text: &str) -> String {
        let Some((head, set)) = text.split_once("<reservationSet>") else { return text.to_owned() };
        let (set, tail) = set.split_once("</reservationSet>").unwrap();
        let told = pieces(set, "<item>", "</item>").into_iter().map(|(is_item, piece)| {
            let piece = if is_item { state(piece, "terminated", "32", "shutting-down") } else { piece.to_owned() };
            match (is_item && self.is_pending(between(&piece, "<instanceId>", "<")), self.shown) {
                (true, Shown::NotYet) => String::new(),
                (true, _) => state(&piece, "running", "0", "pending"),
                (false, _) => piece,
            }
        });
        format!("{head}<reservationSet>{}</reservationSet>{tail}", told.collect::<String>())
    }

    fn databases(&self, text: &str) -> String {
        let Some((head, set)) = text.split_once("<DBInstances>") else { return text.to_owned() };
        let (set, tail) = set.split_once("</DBInstances>").unwrap();
        let told = pieces(set, "<DBInstance>", "</DBInstance>").into_iter().map(|(is_item, piece)| {
            match (is_item && self.is_pending(between(piece, "<DBInstanceIdentifier>", "<")), self.shown) {
                (true, Shown::NotYet) => String::new(),
                (true, _) => {
                    let piece = piece.replace("<DBInstanceStatus>available<", "<DBInstanceStatus>creating<");
                    // There is no address before it answers.
                    pieces(&piece, "<Endpoint>", "</Endpoint>")
                        .iter()
                        .filter(|(is, _)| !is)
                        .map(|(_, text)| *text)
                        .collect()
                }
                (false, _) => piece.to_owned(),
            }
        });
        let going = self.deleted.values().map(|described| {
            let status = between(described, "<DBInstanceStatus>", "<").unwrap_or_default();
            let from = format!("<DBInstanceStatus>{status}<");
            format!("<DBInstance>{}</DBInstance>", described.replace(&from, "<DBInstanceStatus>deleting<"))
        });
        let all: String = told.chain(going.collect::<Vec<_>>()).collect();
        format!("{head}<DBInstances>{all}</DBInstances>{tail}")
    }
}

/// A description in which an instance that has one state has another one.
fn state(piece: &str, name: &str, code: &str, other: &str) -> String {
    let Some((before, after)) = piece.split_once("<instanceState>") else { return piece.to_owned() };
    let (inside, after) = after.split_once("</instanceState>").unwrap();
    let inside =
        if inside.contains(name) { format!("<code>{code}</code><name>{other}</name>") } else { inside.to_owned() };
    format!("{before}<instanceState>{inside}</instanceState>{after}")
}
