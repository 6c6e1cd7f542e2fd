//! The HTTP server: hyper over TCP, HTTP/1.1 with keep-alive and HTTP/2 with prior knowledge, no TLS.
//!
//! Owns `shutdown-finishes-requests`: once told to stop it accepts no connection and no further request, answers the
//! requests it has, and then ends. It knows nothing of the routes it serves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tarn_store::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a connection may take to send the head of its next request; idle connections are closed after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// Wait after a failed accept: out of file descriptors, most likely; connections end in the meantime.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long requests in flight may take once the server was told to stop.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Becomes true, once, when the server must stop.
pub(crate) type Stop = watch::Receiver<bool>;

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every request was answered.
    Drained,
    /// This many connections were cut off, their requests took longer than [`DRAIN_TIMEOUT`].
    CutOff(usize),
}

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds; port 0 takes a free port.
    ///
    /// # Errors
    /// The address is taken or is not this machine's.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address with the port that was taken.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop, then finishes the requests in flight.
    pub(crate) async fn run(self, router: Router, clock: Arc<dyn Clock>, mut stop: Stop) -> Ended {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, router.clone(), stop.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        clock.sleep(ACCEPT_PAUSE).await;
                    }
                },
                // Reaps what has ended; without connections there is nothing to wait for.
                Some(_) = connections.join_next() => {}
                () = stopped(&mut stop) => break,
            }
        }
        drop(self.listener);
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => Ended::Drained,
            () = clock.sleep(DRAIN_TIMEOUT) => Ended::CutOff(connections.len()),
        }
    }
}

/// Returns once the server must stop; a sender that is gone means the same.
pub(super) async fn stopped(stop: &mut Stop) {
    // An error says that the sender is gone.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connection(stream: TcpStream, router: Router, mut stop: Stop) {
    // Answers are small; waiting to fill a packet would add 40 ms to them. A socket that refuses is closing anyway.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(true);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS).keep_alive_interval(Some(HEAD_TIMEOUT));
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients hang up in many ways; none is the server's fault.
        tracing::debug!(error = %error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tarn_store::SystemClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};

    use super::*;

    async fn serve(router: Router) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<Ended>) {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address();
        let (sender, stop) = watch::channel(false);
        let task = tokio::spawn(server.run(router, Arc::new(SystemClock), stop));
        (address, sender, task)
    }

    #[tokio::test]
    async fn shutdown_finishes_requests() {
        let (started, has_started) = oneshot::channel::<()>();
        let started = Arc::new(std::sync::Mutex::new(Some(started)));
        let release = Arc::new(Notify::new());
        let handler = {
            let release = release.clone();
            move || async move {
                started.lock().unwrap().take().unwrap().send(()).unwrap();
                release.notified().await;
                "done"
            }
        };
        let (address, stop, task) = serve(Router::new().route("/slow", get(handler))).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        has_started.await.unwrap();
        stop.send(true).unwrap();
        // The listener goes away while the request is still being answered.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        release.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        assert_eq!(task.await.unwrap(), Ended::Drained);
    }

    #[tokio::test]
    async fn idle_connections_do_not_hold_up_the_end() {
        let (address, stop, task) = serve(Router::new().route("/", get(|| async { "ok" }))).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 12];
        idle.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200");
        stop.send(true).unwrap();
        assert_eq!(task.await.unwrap(), Ended::Drained);
    }
}
