//! Answers the endpoint when it measures the latency to its relay.
//!
//! The endpoint stays connected to the one relay that answered such a probe, its home, whether it has something to send or
//! not. Only then can other peers reach it there: one that connects when it first sends cannot be called through the relay
//! before. The forwarder is always equally near, so it answers itself, also while no relay is known.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Start of a probe.
const QUESTION: &[u8] = b"GET /ping ";

/// The answer that iroh accepts.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Maximum length of a probe: its headers take a fraction.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// Pause while only a part of a probe has arrived, which does not happen on loopback.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether a connection starts with a probe; waits for the first bytes and takes nothing from the stream.
pub(super) async fn is_question(client: &TcpStream) -> bool {
    let mut seen = [0; QUESTION.len()];
    while let Ok(read @ 1..) = client.peek(&mut seen).await {
        if !QUESTION.starts_with(&seen[..read]) {
            return false;
        }
        if read == QUESTION.len() {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

/// Answers a probe.
///
/// # Errors
/// When the endpoint has gone, or the probe is too long.
pub(super) async fn answer(mut client: TcpStream) -> io::Result<()> {
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") {
        let read = client.read_buf(&mut question).await?;
        if read == 0 || question.len() > QUESTION_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    client.write_all(ANSWER).await?;
    client.shutdown().await
}
