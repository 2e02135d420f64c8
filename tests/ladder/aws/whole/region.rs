//! The counterpart's Region: moto behind the strict layer says what there is, and here it is made. An instance is namespaces
//! in which its user data is executed; a database's endpoint leads to a real PostgreSQL with a certificate.
//!
//! Guarantees: an instance has the address that `DescribeInstances` tells; what is terminated ends.
//! Must not know: Kagero's controller.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::Executor as _;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::task::AbortOnDropHandle;

use super::internet::Authority;
use super::machine::{Disk, Machine};
use super::{DATABASES, METADATA};
use crate::aws::databases::Rds;
use crate::aws::strict::{Done, between};

/// What the metadata service says to whoever reaches it.
pub const SAID_BY_METADATA: &str = "metadata of the machine";

/// An instance that was launched and not terminated.
struct Instance {
    address: Ipv4Addr,
    disk: Arc<Disk>,
    /// While it runs.
    machine: Option<Arc<Machine>>,
}

type Instances = Arc<Mutex<BTreeMap<String, Instance>>>;

pub struct Region {
    pub rds: Arc<Rds>,
    instances: Instances,
    _making: AbortOnDropHandle<()>,
    _metadata: AbortOnDropHandle<()>,
}

impl Region {
    /// With a golden snapshot, and databases that answer under certificates of that authority.
    pub async fn start(authority: &Authority) -> Self {
        let rds = Rds::start_on("127.0.0.1,10.64.0.10").await;
        let certified = authority.certify(DATABASES);
        rds.server.keep("server.crt", &certified.certificate_pem());
        rds.server.keep("server.key", &certified.key_pem());
        let mut superuser = rds.superuser("postgres").await;
        let file: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut superuser).await.unwrap();
        let rules = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, rules + "hostssl all all 10.64.0.0/16 scram-sha-256\n").unwrap();
        superuser.execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        superuser.execute("SELECT pg_reload_conf()").await.unwrap();
        rds.staging.strict.lead_databases_to(DATABASES, rds.server.port);
        // Where production lives Kagero does not start; the snapshot of it is elsewhere by now.
        let production = rds.raw.delete_db_instance().db_instance_identifier("production");
        production.skip_final_snapshot(true).send().await.unwrap();

        let (rds, instances) = (Arc::new(rds), Instances::default());
        let done = rds.staging.strict.done();
        let making = AbortOnDropHandle::new(tokio::spawn(make(Arc::clone(&rds), Arc::clone(&instances), done)));
        let at = SocketAddr::new(METADATA.parse().unwrap(), 80);
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        let router = Router::new().route("/", get(async || SAID_BY_METADATA));
        let metadata =
            AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
        Self { rds, instances, _making: making, _metadata: metadata }
    }

    /// The machines that run.
    pub fn machines(&self) -> Vec<Arc<Machine>> {
        self.instances.lock().unwrap().values().filter_map(|instance| instance.machine.clone()).collect()
    }
}

/// Makes what AWS would make of each call.
async fn make(rds: Arc<Rds>, instances: Instances, mut done: UnboundedReceiver<Done>) {
    while let Some(Done { action, form, answer }) = done.recv().await {
        let ids = form.iter().filter(|(key, _)| key.starts_with("InstanceId."));
        let ids: Vec<String> = ids.map(|(_, id)| id.clone()).collect();
        match action.as_str() {
            "RunInstances" => {
                let id = between(&answer, "<instanceId>", "<").unwrap();
                let told = rds.staging.ec2.describe_instances().instance_ids(id).send().await.unwrap();
                let address = told.reservations()[0].instances()[0].private_ip_address().unwrap().parse().unwrap();
                let disk = Arc::new(Disk::new(&STANDARD.decode(&form["UserData"]).unwrap()));
                let machine = Some(Arc::new(Machine::boot(address, Arc::clone(&disk)).await));
                instances.lock().unwrap().insert(id.to_owned(), Instance { address, disk, machine });
            }
            "StartInstances" => {
                for id in &ids {
                    let off = instances.lock().unwrap().get(id).filter(|it| it.machine.is_none()).map(Instance::parts);
                    if let Some((address, disk)) = off {
                        let machine = Arc::new(Machine::boot(address, disk).await);
                        instances.lock().unwrap().get_mut(id).unwrap().machine = Some(machine);
                    }
                }
            }
            "StopInstances" | "TerminateInstances" => {
                for id in &ids {
                    let machine = instances.lock().unwrap().get_mut(id).and_then(|instance| instance.machine.take());
                    if let Some(machine) = machine {
                        machine.end().await;
                    }
                    if action == "TerminateInstances" {
                        instances.lock().unwrap().remove(id);
                    }
                }
            }
            "RestoreDBInstanceFromDBSnapshot" => rds.rotate(&form["DBInstanceIdentifier"]).await,
            _ => {}
        }
    }
}

impl Instance {
    fn parts(&self) -> (Ipv4Addr, Arc<Disk>) {
        (self.address, Arc::clone(&self.disk))
    }
}
