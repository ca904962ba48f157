//! Answers the endpoint when it asks how far its relay is.
//!
//! The endpoint stays connected to the one relay that answered such a question, its home, whether it has something to send or
//! not. Only then can others reach it there: a peer that connects when it sends for the first time is not found by those
//! who need the relay to call it. The forwarder is always as near, so it answers itself, also while no relay is known.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How the question begins.
const QUESTION: &[u8] = b"GET /ping ";

/// The answer that counts.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Longest question: its headers take a fraction.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// Time between two looks at a question of which only a part has come, which does not happen on loopback.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether a connection is such a question; ends once something has been said. Takes nothing from the stream.
pub(super) async fn is_question(client: &TcpStream) -> bool {
    let mut said = [0; QUESTION.len()];
    while let Ok(read @ 1..) = client.peek(&mut said).await {
        if !QUESTION.starts_with(&said[..read]) {
            return false;
        }
        if read == QUESTION.len() {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

/// Answers it.
///
/// # Errors
/// When the endpoint has gone, or asks too long a question.
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
