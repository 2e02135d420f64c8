//! One controller process: it can die, stand still, and be started again.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use kagero::clock::{Clock as _, SteadyClock};
use kagero::controller::sweep::{Report, Scope, SweepError};
use kagero::controller::{Desk, Engine, World};
use kagero::domain::policy::Policy;
use kagero::forge::budget::WriteLimits;
use kagero::gateway::route::RouteTable;
use kagero::sim::clock::{SimClock, Time};
use kagero::sim::cloud::{Cloud, SimDatabases, SimMachines};
use kagero::sim::fate::{Dealer, Nerve, Signal};
use kagero::sim::hub::{Hub, SimForge};
use kagero::sim::visitor::SimProber;
use kagero::store::Store;
use tokio::sync::oneshot;

/// What all members share.
#[derive(Clone)]
pub struct Outside {
    pub time: Time,
    pub cloud: Cloud,
    pub hub: Hub,
    pub dealer: Arc<Dealer>,
    pub store: Store,
    pub policy: Policy,
    /// Members share a server, whose clock is right, and go by it; otherwise by their machines' clocks.
    pub has_server: bool,
}

/// Between two full listings.
const RESYNC: Duration = Duration::from_mins(10);

/// Between two sweeps.
const SWEEP: Duration = Duration::from_hours(1);

/// Between two looks at an inbox that nobody has announced anything in, as `controller::intake` has it.
const TICK: Duration = Duration::from_secs(20);

/// A member that stands still does so for longer than its lease lasts.
const STANDSTILL: Duration = Duration::from_secs(90);

/// How often a server is asked for the time.
const TIME_CHECK: Duration = Duration::from_secs(30);

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// See the module's documentation.
pub struct Member {
    name: String,
    outside: Outside,
    /// Its machine's.
    pub clock: SimClock,
    /// Its own, since it was started.
    steady: Arc<SteadyClock>,
    told_time_at: Duration,
    nerve: Nerve,
    engine: Option<Engine>,
    started: u32,
    still: Option<(Work, oneshot::Sender<()>, Duration)>,
    resync_at: Duration,
    sweep_at: Duration,
    look_at: Option<Duration>,
}

impl Member {
    pub async fn start(name: &str, outside: Outside) -> Self {
        let clock = SimClock::new(outside.time.clone());
        let mut member = Self {
            name: name.to_owned(),
            steady: Arc::new(SteadyClock::new(Arc::new(clock.clone()))),
            told_time_at: Duration::ZERO,
            clock,
            nerve: Nerve::new(Arc::clone(&outside.dealer)),
            outside,
            engine: None,
            started: 0,
            still: None,
            resync_at: Duration::ZERO,
            sweep_at: Duration::ZERO,
            look_at: None,
        };
        member.restart().await;
        member
    }

    /// Dies and is started again: nothing that it kept in memory is left.
    pub async fn restart(&mut self) {
        self.still = None;
        self.engine = None;
        self.started += 1;
        self.nerve = Nerve::new(Arc::clone(&self.outside.dealer));
        let Outside { cloud, hub, store, policy, time, .. } = self.outside.clone();
        let clock = Arc::new(SteadyClock::new(Arc::new(self.clock.clone())));
        self.steady = Arc::clone(&clock);
        self.tell_time();
        if let Some(written) = store.written_at().await.unwrap() {
            clock.not_before(written);
        }
        let install = policy.install.clone();
        let machines = Arc::new(SimMachines::new(cloud.clone(), install.clone(), self.nerve.clone(), clock.clone()));
        let routes = RouteTable::default();
        let limits = WriteLimits { pause: Duration::ZERO, ..WriteLimits::default() };
        let world = World {
            forge: Arc::new(SimForge::new(hub, self.nerve.clone(), clock.clone())),
            machines: machines.clone(),
            databases: Arc::new(SimDatabases::new(cloud.clone(), install, self.nerve.clone(), clock.clone())),
            agents: machines,
            prober: Arc::new(SimProber::new(routes.clone(), cloud, self.nerve.clone())),
            routes,
            clock,
            policy: ArcSwap::from_pointee(policy),
            secrets: std::collections::BTreeMap::new(),
            holder: format!("{}-{}", self.name, self.started),
            writes: limits,
            store,
        };
        self.engine = Some(Engine::new(world).await.unwrap());
        self.resync_at = time.elapsed();
        self.look_at = Some(time.elapsed());
    }

    /// What the store's server says.
    fn tell_time(&mut self) {
        if self.outside.has_server {
            self.steady.follow(self.outside.time.now(), self.steady.uptime());
            self.told_time_at = self.outside.time.elapsed();
        }
    }

    /// Starts again with another policy.
    pub async fn adopt(&mut self, policy: Policy) {
        self.outside.policy = policy;
        self.restart().await;
    }

    /// Dies, and is not started again.
    pub fn halt(&mut self) {
        self.still = None;
        self.engine = None;
    }

    /// The records are in another store from its next start on.
    pub fn note_store(&mut self, store: Store) {
        self.outside.store = store;
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Whom one may ask.
    pub fn desk(&self) -> Desk {
        self.engine().desk()
    }

    /// Whether it takes part: one that stands still does not.
    pub fn is_going(&self) -> bool {
        self.still.is_none()
    }

    /// When it has something to do.
    pub fn due_at(&self) -> Duration {
        if let Some((.., until)) = &self.still {
            return *until;
        }
        [self.engine().due_at(), self.look_at, Some(self.resync_at), Some(self.sweep_at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap()
    }

    /// There is something in the inbox.
    pub fn told(&mut self) {
        self.look_at = Some(self.outside.time.elapsed());
    }

    /// Does one thing that is due.
    pub async fn step(&mut self) {
        let now = self.outside.time.elapsed();
        if now >= self.told_time_at + TIME_CHECK {
            self.tell_time();
        }
        if let Some((work, go_on, until)) = self.still.take() {
            if until > now {
                self.still = Some((work, go_on, until));
                return;
            }
            let _ = go_on.send(());
            self.drive(work).await;
            return;
        }
        let engine = self.engine().clone();
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            let again = Arc::new(Mutex::new(None));
            let told = Arc::clone(&again);
            let looking = async move { *told.lock().unwrap() = Some(engine.look().await.unwrap()) };
            self.drive(Box::pin(looking)).await;
            let wait = again.lock().unwrap().flatten();
            // What another one has claimed and did not live to see is seen at a later look.
            let is_left = self.outside.store.inbox().counts().await.unwrap().pending > 0;
            let tick = self.look_at.is_none() && is_left;
            if let Some(wait) = wait.or(tick.then_some(TICK)) {
                self.look_at = Some(now + wait.max(Duration::from_millis(1)));
            }
        } else if self.resync_at <= now {
            self.resync_at = now + RESYNC;
            self.drive(Box::pin(async move { engine.resync().await })).await;
        } else if self.sweep_at <= now {
            self.sweep_at = now + SWEEP;
            self.drive(Box::pin(async move {
                let _ = engine.desk().sweep(Scope::Apply(None)).await;
            }))
            .await;
        } else {
            self.drive(Box::pin(async move {
                let _ = engine.pass().await;
            }))
            .await;
        }
    }

    /// Leaves sweeping to others.
    pub fn sweep_no_more(&mut self) {
        self.sweep_at = Duration::MAX;
    }

    /// Sweeps if nobody has since that long; how long until it is time to look again.
    pub async fn sweep_if_due(&self, every: Duration) -> Result<Duration, SweepError> {
        self.engine().sweep_if_due(Scope::Apply(None), every).await
    }

    /// Sweeps; where it stands still, something else happens before it goes on.
    pub async fn sweep_around(&mut self, meanwhile: impl Future<Output = ()>) -> Report {
        let (sweep, go_on) = self.sweep_to_standstill().await;
        meanwhile.await;
        let _ = go_on.send(());
        sweep.await
    }

    /// Sweeps; the call at which it stands still is not answered for that long, by the clock of time-outs.
    pub async fn sweep_unanswered(&mut self, wait: Duration) -> Report {
        let (sweep, _unanswered) = self.sweep_to_standstill().await;
        tokio::time::pause();
        tokio::time::advance(wait).await;
        tokio::time::resume();
        sweep.await
    }

    async fn sweep_to_standstill(&self) -> (Pin<Box<dyn Future<Output = Report>>>, oneshot::Sender<()>) {
        let (nerve, desk) = (self.nerve.clone(), self.desk());
        let mut sweep: Pin<Box<dyn Future<Output = Report>>> =
            Box::pin(async move { desk.sweep(Scope::Apply(None)).await.unwrap() });
        let signal = tokio::select! {
            biased;
            report = &mut sweep => panic!("it did not stand still: {report:?}"),
            signal = nerve.signal() => signal,
        };
        let Signal::Paused(go_on) = signal else { panic!("{signal:?}") };
        (sweep, go_on)
    }

    async fn drive(&mut self, mut work: Work) {
        let nerve = self.nerve.clone();
        let signal = tokio::select! {
            biased;
            () = &mut work => return,
            signal = nerve.signal() => signal,
        };
        match signal {
            Signal::Crashed => {
                drop(work);
                self.restart().await;
            }
            Signal::Paused(go_on) => {
                self.still = Some((work, go_on, self.outside.time.elapsed() + STANDSTILL));
            }
        }
    }
}
