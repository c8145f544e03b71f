//! The thread that serves metrics over HTTP.
//!
//! A scraper that is slow, silent or one of many is its own problem: every connection carries one request, has an end, and
//! there are few at a time.

use super::expose::{Format, text_format};
use super::metrics::Metrics;
use super::thread::Control;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// How long one connection may take, to the last byte of its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to ask: whoever connects and is silent takes a place from those who want something.
const ASKING: Duration = Duration::from_secs(1);
/// How long metrics of this moment are waited for; else they are those of the last.
const REFRESH: Duration = Duration::from_millis(500);
/// Connections at a time.
const CONNECTIONS: usize = 64;
/// Where no descriptor is left for a connection: until the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
#[error("--metrics {address}: cannot listen there: {answer}: {}", advice(answer))]
pub struct MetricsError {
    /// As it was typed.
    pub address: SocketAddr,
    /// What the kernel answered.
    pub answer: io::Error,
}

fn advice(answer: &io::Error) -> &'static str {
    match answer.kind() {
        io::ErrorKind::AddrInUse => "another program has this port (ss -ltnp tells which): name another one",
        io::ErrorKind::AddrNotAvailable => "name an address that this machine has, such as 127.0.0.1",
        io::ErrorKind::PermissionDenied => "name a port from 1024 on, or run with CAP_NET_BIND_SERVICE",
        _ => "name another address or port",
    }
}

/// A port that is listened on and not yet served.
#[derive(Debug)]
pub struct Port(TcpListener);

impl Port {
    /// Takes the port.
    ///
    /// # Errors
    /// What the kernel answered to `bind(2)` or `listen(2)`.
    pub fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        listener.map(Self).map_err(|answer| MetricsError { address, answer })
    }

    /// Starts the thread. It asks the display for counts of the moment before it answers.
    pub(super) fn serve(self, metrics: Arc<Metrics>, control: Sender<Control>) -> io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = move || {
            runtime.spawn(accept(self.0, metrics, control));
            // The sender is dropped, not used.
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(served)?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

/// The thread; it ends with the value, whatever is under way.
#[derive(Debug)]
pub(super) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, metrics: Arc<Metrics>, control: Sender<Control>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The kernel keeps those that there is no room for.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let connection = converse(stream, Arc::clone(&metrics), control.clone());
        tokio::spawn(async move {
            let _ = timeout(PATIENCE, connection).await;
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, metrics: Arc<Metrics>, control: Sender<Control>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&metrics), control.clone()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(ASKING).keep_alive(false);
    // Whoever hangs up has what it wanted.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    metrics: Arc<Metrics>,
    control: Sender<Control>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "there is only /metrics\n"));
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    let (asked, answered) = oneshot::channel();
    // The display thread has them all of one moment.
    let families = match control.send(Control::Scrape(asked)).map(|()| timeout(REFRESH, answered)) {
        Ok(fresh) => fresh.await.ok().and_then(Result::ok),
        Err(_) => None,
    };
    // One that hangs in a write to a terminal must not hold up the scraper too.
    let families = families.unwrap_or_else(|| metrics.families());
    let accepts: Vec<&str> = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::of_accept(&accepts.join(","));
    let body = match (families, format) {
        (Ok(families), Format::Text) => text_format(&families).into_bytes(),
        (Ok(families), Format::Protobuf) => super::metrics::to_protobuf(&families),
        (Err(_), _) => return Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded\n")),
    };
    let response = Response::builder().header(CONTENT_TYPE, format.content_type()).body(Full::new(Bytes::from(body)));
    Ok(response.expect("the header is a constant"))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
