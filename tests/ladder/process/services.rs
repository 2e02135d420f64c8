//! What `.kagero.yml` says of services and data.

use kagero::sim::github::FileChange;

use super::rig::{PATIENCE, Rig, Setup};
use crate::wait::eventually;

/// Adds a row each time, and tells how many there are.
const COUNT: &str = "python3 - <<'END'\nimport os, sqlite3\nfile = sqlite3.connect(os.environ['DATABASE_URL'][9:])\n\
                     file.execute(\"INSERT INTO things (id, name) SELECT max(id) + 1, 'mine' FROM things\")\nfile.commit()\n\
                     print(file.execute('SELECT count(*) FROM things').fetchone()[0])\nEND\n";

async fn count(rig: &Rig, number: u64) -> String {
    let answer: serde_json::Value = rig.visit(number, "/spy").await.unwrap().json().await.unwrap();
    assert_eq!(answer["err"], "", "{answer}");
    answer["out"].as_str().unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_push_resets_the_data_where_the_base_branch_says_so() {
    let reset = Setup::sqlite().with_yml_edited("seed: golden,", "seed: golden, on_push: reset,");
    let mut rig = Rig::start(reset).await;
    let number = rig.open("Counts", vec![FileChange::write("spy.sh", COUNT)]).await;
    rig.until_ready(number).await;
    let first = rig.databases().await;
    assert_eq!((count(&rig, number).await, count(&rig, number).await), ("2".to_owned(), "3".to_owned()));
    rig.push(number, "Counts anew", vec![]).await;
    rig.until_ready(number).await;
    assert_eq!(count(&rig, number).await, "2", "the data of before the push are there");
    eventually("the old database is gone", PATIENCE, async || {
        let now = rig.databases().await;
        if now.len() == 1 && now != first { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn each_public_service_answers_at_its_own_address_and_private_ones_nowhere() {
    let more = "  api: {run: \"exec env ROLE=api python3 app.py\", health: /version, public: true}\n  \
                inner: {run: \"exec env ROLE=inner python3 app.py\", health: /version}\ndatabase:";
    let mut rig = Rig::start(Setup::sqlite().with_yml_edited("database:", more)).await;
    let number = rig.open("Three services", vec![]).await;
    rig.until_ready(number).await;
    let label = format!("pr-{number}-shop");
    for (label, role) in [(label.clone(), None), (format!("{label}-web"), None), (format!("{label}-api"), Some("api"))]
    {
        let answer = rig.visit_host(&label, "/version").await.unwrap();
        assert_eq!(answer.status(), 200, "{label}");
        let version: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(version["role"].as_str(), role, "{label} answers {version}");
    }
    let inner = rig.visit_host(&format!("{label}-inner"), "/version").await.unwrap();
    assert_eq!(inner.status(), 404);
    let said = rig.until_says(number, "| api | ✅ ready |").await;
    assert!(said.contains(&format!("://{label}-api.")) && said.contains("| inner | ✅ ready | – |"), "{said}");
    rig.finish().await;
}
