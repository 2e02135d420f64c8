//! What outlives a restart, and what is forgotten in time.

use std::time::Duration;

use http::Method;
use kagero::clock::{Clock as _, SystemClock};
use kagero::domain::id::{EnvKey, PrNumber, RepoId};
use kagero::forge::budget::WriteBudget;
use kagero::store::Store;
use sqlx::Connection as _;

use super::rig::{PATIENCE, Rig, Setup};
use crate::wait::eventually;

const DAY: Duration = Duration::from_hours(24);

/// How long ago the writes of before the restart were made. GitHub's minute, and ours, is over after 60 s.
const AGO: Duration = Duration::from_secs(52);

#[tokio::test]
async fn writes_of_before_a_restart_count_and_deliveries_are_kept_for_a_week() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    rig.until_in_sync().await;
    let number = rig.open("Written about", vec![]).await;
    rig.until_ready(number).await;
    rig.push(number, "Once more", vec![]).await;
    rig.until_ready(number).await;
    rig.kill9_controller();

    let url = format!("sqlite:{}", rig.state_dir().join("kagero.db").display());
    let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let now = SystemClock.now();
    let processed: Vec<i64> = sqlx::query_scalar("SELECT seq FROM inbox WHERE processed_at IS NOT NULL ORDER BY seq")
        .fetch_all(&mut file)
        .await
        .unwrap();
    let [old, young] = processed[..2] else { panic!("{processed:?}") };
    for (seq, days) in [(old, 8), (young, 6)] {
        let sql = "UPDATE inbox SET processed_at = $1 WHERE seq = $2";
        sqlx::query(sql).bind(now.minus(DAY * days).0).bind(seq).execute(&mut file).await.unwrap();
    }
    let store = Store::open(&url).await.unwrap();
    let key = EnvKey { repo: RepoId(1), pr: PrNumber(1) };
    for _ in 0..60 {
        let taken = store.take_write(key, now.minus(AGO), WriteBudget::WINDOW, |_| Ok::<(), ()>(())).await;
        taken.unwrap().unwrap();
    }
    store.close().await;

    let before = writes(&rig);
    rig.launch().await;
    let head = rig.push(number, "After the restart", vec![]).await;
    eventually("deeds do not wait for words", PATIENCE, async || {
        let serving = rig.serving(number).await?;
        if serving == head { Ok(()) } else { Err(serving) }
    })
    .await;
    eventually("words follow", PATIENCE, async || writes(&rig) > before).await;
    let age = SystemClock.now().since(now.minus(AGO));
    assert!(age >= Duration::from_mins(1), "the 61st write came {age:?} after the first");
    rig.until_ready(number).await;

    eventually("what was processed more than a week ago is forgotten", PATIENCE, async || {
        let left: Vec<i64> =
            sqlx::query_scalar("SELECT seq FROM inbox ORDER BY seq").fetch_all(&mut file).await.unwrap();
        assert!(left.contains(&young), "{left:?}");
        !left.contains(&old)
    })
    .await;
    rig.finish().await;
}

/// How often something was written on GitHub.
fn writes(rig: &Rig) -> usize {
    let is_write = |method: &Method, path: &str| {
        *method != Method::GET && (path.contains("/comments") || path.contains("/deployments"))
    };
    rig.github.requests().iter().filter(|(method, path, _)| is_write(method, path)).count()
}
