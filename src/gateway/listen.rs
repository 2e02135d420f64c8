//! Accepting connections: several threads, each with a single-threaded runtime and a listening socket of
//! its own on the same port, so that a request never changes threads.
//!
//! Guarantees: the address is this gateway's alone; connections are bounded; a shutdown lets requests end,
//! within bounds.
//! Must not know: what is answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::GatewayConfig;
use super::host::{InvalidDomain, PreviewDomain};
use super::meter::{Meter, Present};
use super::pool::Pool;
use super::route::RouteTable;
use super::serve::Worker;

const BACKLOG: i32 = 1_024;

/// The gateway.
pub struct Gateway;

/// A running gateway. Dropping it stops the gateway without waiting for requests that are under way.
#[derive(Debug)]
pub struct GatewayHandle {
    address: SocketAddr,
    stop: CancellationToken,
    cut: CancellationToken,
    ended: mpsc::Receiver<()>,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The configured domain is none.
    #[error("the gateway cannot serve its domain")]
    Domain(#[from] InvalidDomain),
    /// The address cannot be listened on.
    #[error("the gateway cannot listen on {0}: is another program using it, or does it need more rights?")]
    Listen(SocketAddr, #[source] io::Error),
    /// A thread or its runtime could not be made.
    #[error("the gateway could not start a thread: the machine is short of processes, memory or file descriptors")]
    Thread(#[source] io::Error),
}

impl Gateway {
    /// Starts the gateway on threads of its own and returns at once.
    pub fn start(config: GatewayConfig, routes: RouteTable) -> Result<GatewayHandle, GatewayError> {
        let GatewayConfig { listen, domain, threads, scheme, front, forge_url, limits, timeouts } = config;
        let domain = PreviewDomain::parse(&domain)?;
        let failed = |error| GatewayError::Listen(listen, error);
        let sockets = listeners(listen, threads.get()).map_err(failed)?;
        let address = sockets.first().map_or(Ok(listen), std::net::TcpListener::local_addr).map_err(failed)?;
        tracing::info!(gateway.address = %address, gateway.domain = %domain, "the gateway accepts connections");

        let stop = CancellationToken::new();
        let cut = CancellationToken::new();
        let (alive, ended) = mpsc::channel(1);
        // An early return drops it, which stops the threads that are there already.
        let handle = GatewayHandle { address, stop: stop.clone(), cut: cut.clone(), ended };

        let meter = Arc::new(Meter::new());
        // A thread waits for a seat before it accepts: seats of its own, so that none is held by a thread to
        // which no connection comes.
        let seats = limits.connections.div_ceil(threads.get()).min(Semaphore::MAX_PERMITS);
        let forge_url: Arc<str> = forge_url.into();
        let worker = move || Worker {
            domain: domain.clone(),
            routes: routes.clone(),
            pool: Pool::new(&limits, &timeouts, meter.connects.clone()),
            meter: Arc::clone(&meter),
            timeouts,
            front,
            scheme,
            forge_url: Arc::clone(&forge_url),
            seats: Arc::new(Semaphore::new(seats)),
            tasks: TaskTracker::new(),
            stop: stop.child_token(),
        };
        for (number, socket) in sockets.into_iter().enumerate() {
            let worker = Arc::new(worker());
            let (cut, alive) = (cut.clone(), alive.clone());
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GatewayError::Thread)?;
            std::thread::Builder::new()
                .name(format!("gateway-{number}"))
                .spawn(move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = run(worker, socket, limits.header_bytes) => {}
                            () = cut.cancelled() => {}
                        }
                    });
                    drop((runtime, alive));
                })
                .map_err(GatewayError::Thread)?;
        }
        Ok(handle)
    }
}

impl GatewayHandle {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets requests that are under way end within the configured time, ends WebSockets
    /// and event streams, and returns when every thread has ended.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        while self.ended.recv().await.is_some() {}
    }
}

impl Drop for GatewayHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut.cancel();
    }
}

async fn run(worker: Arc<Worker>, socket: std::net::TcpListener, header_bytes: usize) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(error = %error, "a thread of the gateway cannot use its socket; the others go on");
            return;
        }
    };
    let evicting = tokio::spawn(Arc::clone(&worker.pool).evict());
    let mut http = http1::Builder::new();
    http.half_close(true)
        .max_header_size(header_bytes)
        .timer(TokioTimer::new())
        .header_read_timeout(worker.timeouts.request_headers);
    tokio::select! {
        () = accept(&worker, &listener, &http) => {}
        () = worker.stop.cancelled() => {}
    }
    drop(listener);
    worker.tasks.close();
    if tokio::time::timeout(worker.timeouts.drain, worker.tasks.wait()).await.is_err() {
        tracing::warn!(connections = worker.tasks.len(), "requests that did not end in time are cut off");
    }
    evicting.abort();
}

async fn accept(worker: &Arc<Worker>, listener: &TcpListener, http: &http1::Builder) {
    loop {
        let Ok(seat) = Arc::clone(&worker.seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                worker.tasks.spawn(connection(Arc::clone(worker), http.clone(), stream, address, seat));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(error = %error, "no connection can be accepted; is the limit of open files too low?");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    worker: Arc<Worker>,
    http: http1::Builder,
    stream: TcpStream,
    address: SocketAddr,
    seat: OwnedSemaphorePermit,
) {
    let present = Present::of(&worker.meter.connections);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let peer = worker.peer(address);
    let service = service_fn(|request| async { Ok::<_, std::convert::Infallible>(worker.serve(&peer, request).await) });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = worker.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a client's connection ended");
    }
    drop((present, seat));
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// As many sockets as threads on one address. The kernel spreads connections over them.
fn listeners(address: SocketAddr, threads: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if address.port() != 0 {
        // Sharing is only meant between our own threads: any other listener on the address, even one that
        // shares, is an error.
        drop(listener(address, Sharing::Exclusive)?);
    }
    let sharing = if threads > 1 { Sharing::WithOurThreads } else { Sharing::Exclusive };
    let first = listener(address, sharing)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(listener(address, sharing)?);
    }
    Ok(sockets)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Exclusive,
    WithOurThreads,
}

fn listener(address: SocketAddr, sharing: Sharing) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if sharing == Sharing::WithOurThreads {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
