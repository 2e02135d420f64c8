//! Bounded waits on a condition: the only place in the tests where time passes.
//!
//! Guarantees: returns as soon as the condition holds; past the deadline it fails at the caller's line and
//! says what was awaited and what was seen last.
//! Must not know: what is awaited.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

const PACE: Duration = Duration::from_millis(20);

/// What a probe found: the thing awaited, or what there was instead.
pub trait Sight {
    /// The thing awaited.
    type Thing;
    /// The thing, or words for what was seen in its place.
    fn judge(self) -> Result<Self::Thing, String>;
}

impl Sight for bool {
    type Thing = ();
    fn judge(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Sight for Option<T> {
    type Thing = T;
    fn judge(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Sight for Result<T, E> {
    type Thing = T;
    fn judge(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Probes until the thing is there; a probe may say `bool`, `Option` or `Result`. `what` completes the sentence
/// "… did not happen".
///
/// `let page = eventually("the preview answers", deadline, async || get(&url).await.ok()).await;`
#[track_caller]
pub fn eventually<S: Sight>(
    what: impl Display,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> S,
) -> impl Future<Output = S::Thing> {
    let caller = Location::caller();
    async move {
        let end = tokio::time::Instant::now() + deadline;
        let mut last = "no answer at all".to_owned();
        loop {
            match tokio::time::timeout_at(end, probe()).await.map(Sight::judge) {
                Ok(Ok(thing)) => return thing,
                Ok(Err(seen)) => last = seen,
                Err(_) => {}
            }
            let now = tokio::time::Instant::now();
            assert!(now < end, "{what}: did not happen within {deadline:?} (waited at {caller}); last seen: {last}");
            tokio::time::sleep_until(end.min(now + PACE)).await;
        }
    }
}

/// For `drop`, where nothing can be awaited: whether the condition came true before the deadline.
#[allow(clippy::disallowed_methods, reason = "a bounded wait on a condition")]
pub fn came_true(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PACE);
    }
}

/// Between two looks of a loop that has a deadline of its own.
pub async fn look_again() {
    tokio::time::sleep(PACE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_what_the_probe_found() {
        let mut probes = 0;
        let found = eventually("the third probe", Duration::from_secs(20), async || {
            probes += 1;
            (probes == 3).then_some("thing")
        });
        assert_eq!(found.await, "thing");
        eventually("a truth", Duration::from_secs(20), async || true).await;
    }

    #[tokio::test]
    async fn names_what_was_awaited_and_what_was_seen() {
        let waiting = tokio::spawn(eventually("the moon", Duration::from_millis(50), async || {
            Err::<(), _>("a cloud in the way")
        }));
        let text = panic_text(waiting.await.unwrap_err());
        for part in ["the moon", "50ms", "a cloud in the way", "wait.rs"] {
            assert!(text.contains(part), "{part:?} is missing in {text:?}");
        }
    }

    #[tokio::test]
    async fn gives_up_on_a_probe_that_hangs() {
        let waiting = tokio::spawn(eventually("an end", Duration::from_millis(50), async || {
            std::future::pending::<bool>().await
        }));
        assert!(panic_text(waiting.await.unwrap_err()).contains("no answer at all"));
    }

    #[test]
    fn came_true_is_bounded() {
        assert!(came_true(Duration::ZERO, || true));
        assert!(!came_true(Duration::from_millis(30), || false));
    }

    fn panic_text(failure: tokio::task::JoinError) -> String {
        let payload = failure.into_panic();
        payload.downcast_ref::<String>().expect("a panic with a text").clone()
    }
}
