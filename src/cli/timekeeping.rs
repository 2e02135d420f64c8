//! The controller's clock: that of the store's server where replicas share one, otherwise the machine's; never behind
//! what was written before.
//!
//! Guarantees: a replica whose machine's clock is wrong or is put is not wrong with it, and where there is no server
//! a clock that was put back does not make what was written last lie in the future.
//! Must not know: what the time is for.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{BELIEVED, Clock as _, SteadyClock, SystemClock};
use crate::store::{Store, StoreError};

/// How often the server is asked for the time again. In between uptimes count, which differ by far less.
const EVERY: Duration = Duration::from_secs(30);

/// An answer that took longer says too little.
const PROMPT: Duration = Duration::from_secs(2);

/// The clock, set for the first time.
pub async fn begin(store: &Store) -> Result<Arc<SteadyClock>, StoreError> {
    let clock = Arc::new(SteadyClock::new(Arc::new(SystemClock)));
    ask(store, &clock).await?;
    if let Some(written) = store.written_at().await?
        && !clock.not_before(written)
    {
        tracing::warn!(
            "the store was last written at {written}, more than {} h ahead of now: a clock was wrong, then or now; what \
             was noted with it counts as young until then",
            BELIEVED.as_secs() / 3_600
        );
    }
    Ok(clock)
}

/// Keeps it right, for ever.
pub async fn keep(store: Store, clock: Arc<SteadyClock>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(EVERY).await;
        let asked = ask(&store, &clock).await;
        if let Err(error) = &asked
            && !failing
        {
            tracing::warn!(
                error = %crate::telemetry::chain(error),
                "the store's server could not be asked for the time; going by the uptime"
            );
        }
        failing = asked.is_err();
    }
}

async fn ask(store: &Store, clock: &SteadyClock) -> Result<(), StoreError> {
    let before = clock.uptime();
    let answer = store.server_time().await?;
    let took = clock.uptime().saturating_sub(before);
    if let Some(time) = answer.filter(|_| took < PROMPT) {
        clock.follow(time, before + took / 2);
    }
    Ok(())
}
