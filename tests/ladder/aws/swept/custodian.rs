//! Cloud Custodian, as `tests/infra/install` has it, with policies that do what a sweep does.
//!
//! Guarantees: the same look at tags as ours, by EC2 itself where it can filter; what a record knows is given to it as a list.
//! Must not know: what is compared.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::process::Command;

use super::super::counterpart::{REGION, venv};

pub struct Custodian {
    /// Filters for what is ours and nobody's.
    filters: Vec<Value>,
    home: tempfile::TempDir,
}

impl Custodian {
    /// One that knows which environments live, by their uids.
    pub fn new(living: &BTreeSet<String>) -> Self {
        let filters = vec![
            json!({"tag:kagero:managed": "true"}),
            json!({"tag:kagero:install": "dev"}),
            json!({"type": "value", "key": "tag:kagero:uid", "op": "not-in", "value": living}),
        ];
        Self { filters, home: tempfile::tempdir().unwrap() }
    }

    /// What is not marked yet is marked for the next day, which is our 24 hours.
    pub fn marking(&self) -> Value {
        let mark = |op: &str| json!({"type": "mark-for-op", "op": op, "days": 1});
        let unmarked = json!({"tag:maid_status": "absent"});
        self.policies([&unmarked, &mark("terminate")], [&unmarked, &mark("delete")])
    }

    /// What is marked goes: a day early (`skew`), since Custodian's clock cannot be put forward.
    pub fn removing(&self) -> Value {
        let due = |op: &str| json!({"type": "marked-for-op", "op": op, "skew": 1});
        let delete = json!({"type": "delete", "skip-snapshot": true});
        self.policies([&due("terminate"), &json!({"type": "terminate"})], [&due("delete"), &delete])
    }

    /// Of each kind one, with a filter of its own and an action.
    fn policies(&self, machines: [&Value; 2], databases: [&Value; 2]) -> Value {
        let filters = |more: &Value| self.filters.iter().chain([more]).cloned().collect::<Vec<_>>();
        // As many on a page as EC2 allows, and as we ask for: moto has only a hundred where nothing is said.
        let query = json!([
            {"Filters": [
                {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
                {"Name": "tag:kagero:install", "Values": ["dev"]},
            ]},
            {"MaxResults": 1_000},
        ]);
        json!({"policies": [
            {"name": "machines", "resource": "aws.ec2", "query": query, "filters": filters(machines[0]),
             "actions": [machines[1]]},
            {"name": "databases", "resource": "aws.rds", "filters": filters(databases[0]), "actions": [databases[1]]},
        ]})
    }

    /// Runs policies once.
    pub async fn run(&self, url: &str, policies: &Value) {
        let (program, file) = (venv().join("custodian"), self.home.path().join("policies.json"));
        std::fs::write(&file, policies.to_string()).unwrap();
        let done = Command::new(&program)
            .args(["run", "--region", REGION, "--cache-period", "0", "--output-dir"])
            .arg(self.home.path().join("told"))
            .arg(&file)
            .env("AWS_ENDPOINT_URL", url)
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("HOME", self.home.path())
            .output()
            .await
            .unwrap_or_else(|error| panic!("{}: {error}; install it with: tests/infra/install", program.display()));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
