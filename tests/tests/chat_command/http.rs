//! The least of HTTP/1.1 that a fake daemon needs: requests in, answers and streams out.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

/// A connection of either kind.
pub(crate) trait Wire: Read + Write + Send {
    fn hang_up(&self);
}

impl Wire for UnixStream {
    fn hang_up(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Wire for TcpStream {
    fn hang_up(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl FakeRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Method and path.
    pub(crate) fn call(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The next request; nothing when the connection has ended.
pub(crate) fn read_request(reader: &mut BufReader<Box<dyn Wire>>) -> Option<FakeRequest> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let mut request = FakeRequest { method: words.next()?.into(), ..FakeRequest::default() };
    let (path, query) = words.next().map(|target| target.split_once('?').unwrap_or((target, "")))?;
    request.path = path.into();
    request.query =
        query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().into());
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}

/// Writes an answer.
pub(crate) fn answer(wire: &mut dyn Wire, status: u16, body: &str) -> io::Result<()> {
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    // A 204 has no body and no length.
    let text = if status == 204 { "HTTP/1.1 204 No Content\r\n\r\n".to_owned() } else { head + body };
    wire.write_all(text.as_bytes())
}

/// The next chunk of a body that is written while it is sent; nothing at its end.
pub(crate) fn read_chunk(reader: &mut BufReader<Box<dyn Wire>>) -> Option<String> {
    let mut size = String::new();
    reader.read_line(&mut size).ok().filter(|read| *read > 0)?;
    let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).ok()?;
    chunk.truncate(size);
    String::from_utf8(chunk).ok()
}

/// Begins an answer of lines.
pub(crate) fn begin_lines(wire: &mut dyn Wire) -> io::Result<()> {
    wire.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
}

/// Begins an event stream.
pub(crate) fn begin_stream(wire: &mut dyn Wire) -> io::Result<()> {
    wire.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
}

/// Writes one chunk of it.
pub(crate) fn chunk(wire: &mut dyn Wire, text: &str) -> io::Result<()> {
    wire.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    // Queries have a plus sign for a space.
    while let Some(byte) = rest.next().map(|byte| if byte == b'+' { b' ' } else { byte }) {
        let pair = (byte == b'%').then(|| [rest.next(), rest.next()].map(|digit| char::from(digit.unwrap_or(b'0'))));
        bytes.push(pair.map_or(byte, |[high, low]| u8::from_str_radix(&format!("{high}{low}"), 16).unwrap_or(b'?')));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
