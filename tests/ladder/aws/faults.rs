//! Faults as microburst makes them, in AWS's own envelopes, between the SDK and the strict layer: lost answers, torn
//! connections, slow ones, refusals of both services. Whatever they do to a life, it happens once and leaves nothing.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use kagero::clock::{Clock as _, SystemClock};
use kagero::cloud::aws::Connection;
use kagero::cloud::{CloudError, Databases as _, ErrorClass, Machines as _};
use kagero::domain::observed::{Database, Machine};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::counterpart::{Wish, settings, venv};
use super::databases::{Asked, PATIENCE, Rds, found, prove};
use super::fleet::prove_machine_of;
use crate::wait::eventually;

/// microburst, as `tests/infra/install` has it.
struct Microburst {
    url: String,
    client: reqwest::Client,
    _process: Child,
}

impl Microburst {
    async fn before(upstream: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = venv().join("microburst");
        let process = Command::new(&program)
            .args(["--upstream", upstream, "--host", "127.0.0.1", "--port", &port.to_string(), "--no-resign"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; install it with: tests/infra/install", program.display()));
        let this = Self { url: format!("http://127.0.0.1:{port}"), client: reqwest::Client::new(), _process: process };
        eventually("microburst answers", PATIENCE, async || {
            let answer = this.client.get(format!("{}/_microburst/rules", this.url)).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        this
    }

    /// What becomes of the next call of that operation.
    async fn next(&self, service: &str, operation: &str, fate: &Value) {
        let mut rule = json!({"service": service, "operation": operation, "times": 1});
        rule.as_object_mut().unwrap().extend(fate.as_object().unwrap().clone());
        let rules = format!("{}/_microburst/rules", self.url);
        let answer = self.client.patch(rules).json(&json!([rule])).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// The call meets that fate, and comes to that. One fault.
    async fn spoil<T: std::fmt::Debug>(
        &self,
        (service, operation): (&str, &str),
        fate: &Value,
        call: &impl AsyncFn() -> Result<T, CloudError>,
        class: ErrorClass,
    ) -> usize {
        self.next(service, operation, fate).await;
        assert_eq!(once(call).await.unwrap_err(), class, "{operation}: {fate}");
        1
    }

    /// How many faults there were.
    async fn fired(&self) -> usize {
        let answer = self.client.get(format!("{}/_microburst/fired?limit=1000", self.url)).send().await.unwrap();
        answer.json::<Vec<Value>>().await.unwrap().len()
    }
}

/// It is done, and the connection breaks in the answer.
fn lost() -> Value {
    json!({"response": {"abort_bytes": 1}})
}

/// The connection breaks, and nothing is done.
fn reset() -> Value {
    json!({"reset": true})
}

fn refused(code: &str, status: u16) -> Value {
    json!({"error": {"code": code, "status": status}})
}

/// What it comes to beyond our own pace.
async fn once<T>(call: impl AsyncFn() -> Result<T, CloudError>) -> Result<T, ErrorClass> {
    eventually("its turn", PATIENCE, async || match call().await {
        // Ours are told before anything is sent.
        Err(error) if matches!(error.class, ErrorClass::SlowDown(_)) && error.why.contains("our share") => {
            Err(error.to_string())
        }
        done => Ok(done.map_err(|error| error.class)),
    })
    .await
}

#[tokio::test]
async fn whatever_breaks_between_us_and_aws_a_life_happens_once_and_leaves_nothing() {
    let mut rds = Rds::start().await;
    let burst = Microburst::before(&rds.staging.strict.url).await;
    rds.staging.aws = Connection::with(&settings(&burst.url).await);
    let (machines, lane, network) = (rds.staging.machines().await, rds.lane().await, rds.staging.network().await);
    let (wish, asked) = (Wish::of(1, &network), Asked::of(1, &rds).await);
    let mut faults = 0;

    let launch = async || machines.launch(wish.birth()).await;
    for (fate, class) in [
        (reset(), ErrorClass::Ambiguous),
        (refused("InsufficientInstanceCapacity", 500), ErrorClass::NoRoom),
        (refused("VcpuLimitExceeded", 400), ErrorClass::Quota),
        (refused("UnauthorizedOperation", 403), ErrorClass::Denied),
        (refused("InternalError", 500), ErrorClass::Ambiguous),
        (lost(), ErrorClass::Ambiguous),
    ] {
        faults += burst.spoil(("ec2", "RunInstances"), &fate, &launch, class).await;
    }
    let id = once(&launch).await.unwrap();
    let prepare = async || lane.prepare(asked.birth()).await;
    for (fate, class) in [
        (reset(), ErrorClass::Ambiguous),
        (refused("InstanceQuotaExceeded", 400), ErrorClass::Quota),
        (refused("StorageQuotaExceeded", 400), ErrorClass::Quota),
        (refused("InsufficientDBInstanceCapacity", 400), ErrorClass::Quota),
        (refused("AccessDenied", 403), ErrorClass::Denied),
        (lost(), ErrorClass::Ambiguous),
    ] {
        faults += burst.spoil(("rds", "RestoreDBInstanceFromDBSnapshot"), &fate, &prepare, class).await;
    }
    once(&prepare).await.unwrap();

    // A listing that breaks off says nothing; one that is slow says the same.
    for (fate, is_told) in [
        (json!({"response": {"truncate_frac": 0.5}}), false),
        (lost(), false),
        (reset(), false),
        (refused("RequestLimitExceeded", 503), false),
        (json!({"latency": 300}), true),
    ] {
        burst.next("ec2", "DescribeInstances", &fate).await;
        burst.next("rds", "DescribeDBInstances", &fate).await;
        let (running, databases) = (machines.list().await, lane.list().await);
        faults += 2;
        if is_told {
            assert_eq!(running.unwrap().items.iter().map(|one| &one.id).collect::<Vec<_>>(), [&id]);
            assert_eq!(databases.unwrap().items.len(), 1);
        } else {
            let complete = (running.is_ok_and(|one| one.complete), databases.is_ok_and(|one| one.complete));
            assert_eq!(complete, (false, false), "{fate}");
        }
    }

    for fate in [reset(), refused("InternalError", 500), lost()] {
        let machine = machines.list().await.unwrap().items.into_iter().next().unwrap();
        let owned = prove_machine_of(&rds, &Machine { read_at: SystemClock.now(), ..machine });
        burst.next("ec2", "TerminateInstances", &fate).await;
        let error = once(async || machines.terminate(&owned).await).await.unwrap_err();
        assert!(matches!(error, ErrorClass::Retry | ErrorClass::Ambiguous), "{fate}: {error:?}");
        let database = found(&lane, &asked).await.unwrap();
        let owned = prove(&rds, &Database { read_at: SystemClock.now(), ..database });
        burst.next("rds", "DeleteDBInstance", &fate).await;
        let error = once(async || lane.delete(&owned).await).await.unwrap_err();
        assert!(matches!(error, ErrorClass::Retry | ErrorClass::Ambiguous), "{fate}: {error:?}");
        faults += 2;
    }
    assert_eq!(machines.list().await.unwrap().items, [], "the answer was lost, not the deed");
    assert_eq!(lane.list().await.unwrap().items, []);

    // Each fault has happened, and what was done was done once.
    assert_eq!(burst.fired().await, faults);
    let all = rds.staging.ec2.describe_instances().send().await.unwrap();
    assert_eq!(all.reservations().len(), 1, "one machine was ever made");
    let left = rds.raw.describe_db_instances().send().await.unwrap();
    assert_eq!(left.db_instances().len(), 1, "production's stands where it stood");
    eventually("nothing is counted as ours any more", Duration::from_secs(10), async || {
        machines.interfaces().await.is_ok_and(|listing| listing.items.is_empty())
    })
    .await;
}
