//! The way from a machine's address to a service that listens on the machine itself only.
//!
//! Guarantees: bytes go through unchanged, each direction ends by itself; a visitor is turned away while nobody listens.
//! Must not know: what is said.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Before the next visitor when one could not be let in: the agent may be out of file descriptors.
const AFTER_TROUBLE: Duration = Duration::from_millis(100);

/// Leads from one address to another until the handle is dropped; visitors who are in stay in.
pub fn open(outside: SocketAddr, inside: SocketAddr) -> io::Result<AbortOnDropHandle<()>> {
    let listener = std::net::TcpListener::bind(outside)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    Ok(AbortOnDropHandle::new(tokio::spawn(lead(listener, inside))))
}

async fn lead(listener: TcpListener, inside: SocketAddr) {
    loop {
        let Ok((mut visitor, _)) = listener.accept().await else {
            tokio::time::sleep(AFTER_TROUBLE).await;
            continue;
        };
        tokio::spawn(async move {
            if let Ok(mut service) = TcpStream::connect(inside).await {
                // Small answers should not wait for more of them; either side may break off.
                let _ = (visitor.set_nodelay(true), service.set_nodelay(true));
                let _ = tokio::io::copy_bidirectional(&mut visitor, &mut service).await;
            }
        });
    }
}
