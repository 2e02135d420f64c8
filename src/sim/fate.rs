//! What becomes of each call: it succeeds, fails, is lost with or without effect, or its caller dies or stands still.
//!
//! Guarantees: every fault that was dealt is counted, so that a run that met none of a kind can be told from one that
//! survived it.
//! Must not know: what the calls do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::chance::Chance;
use super::mischief::kinds;

kinds! {
    /// A call that leaves the controller.
    Call {
        /// Machines are listed.
        ListMachines,
        /// A machine is launched.
        Launch,
        /// A machine is stopped.
        StopMachine,
        /// A machine is terminated.
        Terminate,
        /// Network interfaces are listed.
        ListInterfaces,
        /// Databases are listed.
        ListDatabases,
        /// A database is prepared.
        Prepare,
        /// A database is stopped.
        StopDatabase,
        /// A database is deleted.
        DeleteDatabase,
        /// Goldens are listed.
        ListGoldens,
        /// A golden is dropped.
        DropGolden,
        /// An agent is asked how it stands.
        Status,
        /// An agent is given a task.
        Assign,
        /// A visitor's question through the gateway.
        Probe,
        /// Anything is read from GitHub.
        Read,
        /// A comment is created, edited or deleted.
        Comment,
        /// A deployment is created.
        CreateDeployment,
        /// A deployment's status is set.
        SetDeployment,
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It fails and nothing has happened.
    Error,
    /// The caller is asked to slow down.
    Throttled,
    /// No answer comes, and nothing has happened.
    LostBefore,
    /// No answer comes, but it has happened.
    LostAfter,
    /// The caller dies before the call.
    CrashBefore,
    /// The call happens, and its caller dies before it hears of it.
    CrashAfter,
    /// The caller stands still before the call, for longer than its lease.
    Pause,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Error,
        Self::Throttled,
        Self::LostBefore,
        Self::LostAfter,
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Pause,
    ];
}

/// How a call ended, if it did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It was refused for the moment.
    Failed,
    /// It was refused for that long.
    Throttled(Duration),
    /// Nobody knows.
    Lost,
}

/// Deals the fates.
#[derive(Debug, Default)]
pub struct Dealer {
    inner: Mutex<Deck>,
}

#[derive(Debug, Default)]
struct Deck {
    /// The one call that is to meet its fate: which of its kind, counted from 0.
    scripted: Option<(Call, u64, Fate)>,
    random: Option<Scattered>,
    seen: BTreeMap<Call, u64>,
    dealt: BTreeMap<(Call, Fate), u64>,
}

#[derive(Debug)]
struct Scattered {
    chance: Chance,
    /// For calls that came to be later than seeds which mean something.
    apart: Chance,
    fates: Vec<Fate>,
    permille: u64,
}

impl Scattered {
    fn fate(&mut self, call: Call) -> Option<Fate> {
        let chance = if call == Call::ListInterfaces { &mut self.apart } else { &mut self.chance };
        let strikes = chance.permille(self.permille);
        chance.one(&self.fates).copied().filter(|_| strikes)
    }
}

impl Dealer {
    /// The call of that kind and number meets that fate, and no other meets any.
    pub fn script(&self, call: Call, number: u64, fate: Fate) {
        let mut deck = self.lock();
        deck.scripted = Some((call, number, fate));
        deck.seen.clear();
    }

    /// Each call meets one of these fates so many times in a thousand.
    pub fn scatter(&self, chance: Chance, fates: &[Fate], permille: u64) {
        let apart = chance.branch(1);
        self.lock().random = Some(Scattered { chance, apart, fates: fates.to_vec(), permille });
    }

    /// Every call succeeds from now on.
    pub fn rest(&self) {
        let mut deck = self.lock();
        deck.scripted = None;
        deck.random = None;
    }

    /// How often each fault was dealt.
    pub fn dealt(&self) -> BTreeMap<(Call, Fate), u64> {
        self.lock().dealt.clone()
    }

    /// How many calls of a kind there were since the script was given.
    pub fn seen(&self, call: Call) -> u64 {
        self.lock().seen.get(&call).copied().unwrap_or_default()
    }

    fn deal(&self, call: Call) -> Option<Fate> {
        let mut deck = self.lock();
        let seen = deck.seen.entry(call).or_default();
        let number = *seen;
        *seen += 1;
        let scripted = deck.scripted.filter(|(which, at, _)| *which == call && *at == number).map(|(.., fate)| fate);
        let fate = scripted.or_else(|| deck.random.as_mut()?.fate(call))?;
        *deck.dealt.entry((call, fate)).or_default() += 1;
        Some(fate)
    }

    fn lock(&self) -> MutexGuard<'_, Deck> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Through what one controller's calls pass, and by what it is stopped. Clones share it.
#[derive(Debug, Clone)]
pub struct Nerve {
    dealer: Arc<Dealer>,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Signals {
    waiting: Mutex<Option<Signal>>,
    raised: Notify,
}

/// Why a controller does not go on.
#[derive(Debug)]
pub enum Signal {
    /// It is dead: drop what it was doing, and everything that it kept in memory.
    Crashed,
    /// It stands still until told to go on.
    Paused(oneshot::Sender<()>),
}

impl Nerve {
    /// Of one controller.
    pub fn new(dealer: Arc<Dealer>) -> Self {
        Self { dealer, signals: Arc::default() }
    }

    /// Waits until the controller does not go on.
    pub async fn signal(&self) -> Signal {
        loop {
            let raised = self.signals.raised.notified();
            if let Some(signal) = self.signals.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return signal;
            }
            raised.await;
        }
    }

    /// Makes a call, as its fate wants it.
    pub async fn call<T>(&self, call: Call, effect: impl FnOnce() -> T) -> Result<T, Trouble> {
        match self.dealer.deal(call) {
            None => Ok(effect()),
            Some(Fate::Error) => Err(Trouble::Failed),
            Some(Fate::Throttled) => Err(Trouble::Throttled(Duration::from_secs(20))),
            Some(Fate::LostBefore) => Err(Trouble::Lost),
            Some(Fate::LostAfter) => {
                effect();
                Err(Trouble::Lost)
            }
            Some(Fate::CrashBefore) => self.crash().await,
            Some(Fate::CrashAfter) => {
                effect();
                self.crash().await
            }
            Some(Fate::Pause) => {
                self.pause().await;
                Ok(effect())
            }
        }
    }

    async fn crash<T>(&self) -> T {
        self.raise(Signal::Crashed);
        std::future::pending().await
    }

    async fn pause(&self) {
        let (go_on, told) = oneshot::channel();
        self.raise(Signal::Paused(go_on));
        // Whoever drops the sender has dropped the controller as well.
        let _ = told.await;
    }

    fn raise(&self, signal: Signal) {
        let mut waiting = self.signals.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Of two calls at the same time one may be its end: whoever died does not merely stand still.
        if !matches!(*waiting, Some(Signal::Crashed)) {
            *waiting = Some(signal);
        }
        self.signals.raised.notify_one();
    }
}
