//! A port that a service has left, kept for as long as visitors may be sent there.
//!
//! Guarantees: a port that somebody was told of is in the agent's hands until that somebody was told otherwise:
//! nobody else can answer there. A visitor who comes meanwhile is led to where the same service is healthy now,
//! or turned away.
//! Must not know: why the service has left.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::ports::PortLease;
use crate::domain::assignment::ServiceReport;

/// Before the next visitor when one could not be let in: the agent may be out of file descriptors.
const AFTER_TROUBLE: Duration = Duration::from_millis(100);

/// Keeps a port until `told` says another address and visitors have had `drain` to move.
pub fn keep(
    lease: PortLease,
    report: watch::Receiver<ServiceReport>,
    mut told: watch::Receiver<Option<SocketAddr>>,
    drain: Duration,
) {
    let address = lease.address();
    if *told.borrow() != Some(address) {
        return;
    }
    let listener = match listen(address) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(%address, %error, "a port that a service has left cannot be held; it is leased to nobody else");
            None
        }
    };
    tokio::spawn(async move {
        let moved = async {
            // A service that is gone tells nothing any more.
            let _ = told.wait_for(|told| *told != Some(address)).await;
            sleep(drain).await;
        };
        tokio::select! {
            () = moved => {}
            () = lead_on(listener, &report) => {}
        }
        drop(lease);
    });
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Never ends.
async fn lead_on(listener: Option<TcpListener>, report: &watch::Receiver<ServiceReport>) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        let Ok((mut visitor, _)) = listener.accept().await else {
            sleep(AFTER_TROUBLE).await;
            continue;
        };
        if let Some(address) = report.borrow().open_at() {
            tokio::spawn(async move {
                if let Ok(mut service) = TcpStream::connect(address).await {
                    // Either side may break off.
                    let _ = tokio::io::copy_bidirectional(&mut visitor, &mut service).await;
                }
            });
        }
    }
}
