//! Bodies of the fuzz targets of this crate: plain functions over bytes. `cargo fuzz` calls them with inputs that it makes
//! (`tests/fuzz`), and a test with inputs that were kept (`tests/fixtures/fuzz`).
//!
//! A function returns, whatever it is given, and panics where something that must hold does not.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use axum::http::Uri;
use chat_core::admission::codec::{AdmissionAnswer, AdmissionRequest};
use chat_proto::api::invites::InviteRequest;
use chat_proto::api::members::{JoinRequest, KnockAnswer, MemberRoleRequest, NameRequest};
use chat_proto::api::messages::SendRequest;
use chat_proto::api::readers::ReadMark;
use chat_proto::api::tokens::TokenRequest;
use chat_proto::api::web::WebSessionRequest;
use chat_proto::cursor::Cursor;
use chat_proto::id::{InviteId, KnockId, MessageId, PeerId, PeerTag};
use chat_proto::text::{check_member_name, printable};
use chat_proto::ticket::Ticket;
use chat_proto::time::{Timestamp, parse_duration};
use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::settings::read_text;
use crate::http::extract::{QueryParams, parse};
use crate::net::JoinTarget;
use crate::net::admission::codec::read_message;
use crate::net::tcp::hello::{Hello, read_line};
use crate::net::tcp::services::{Service, proved_key, read_answer};
use crate::net::transport::framing::read_frame;
use crate::send::{IdempotencyKey, ValidMessage};

/// What was read is written in one way, which is read as the same.
fn text_round_trips<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(&value), "{text:?}");
    }
}

/// A ticket, as text and as the bytes in it, or whatever else is given to `chat join`.
pub fn ticket(data: &[u8]) {
    if let Ok((ticket, _)) = postcard::take_from_bytes::<Ticket>(data)
        && let Ok(read) = ticket.to_string().parse::<Ticket>()
    {
        assert_eq!(read, ticket);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    text_round_trips::<Ticket>(text);
    if let Ok(ticket) = text.parse::<Ticket>() {
        text_round_trips::<Ticket>(&Ticket::link(&ticket.to_string()));
    }
    let _ = JoinTarget::parse(text);
}

/// The hello of a peer, as a newcomer reads it.
pub fn hello(data: &[u8]) {
    let Some(Ok((line, rest))) = read_line(&mut &*data, 4096).now_or_never() else { return };
    assert_eq!([line.as_slice(), b"\n", rest.as_slice()].concat(), data[..line.len() + 1 + rest.len()]);
    let Ok(hello) = serde_json::from_slice::<Hello>(&line) else { return };
    let again = serde_json::to_vec(&hello).expect("it can be written");
    assert_eq!(serde_json::from_slice::<Hello>(&again).ok(), Some(hello));
}

/// What a peer sends first at the TCP port, for the relay, the watch and admission, and what it is answered.
pub fn greeting(data: &[u8]) {
    if let Some(Ok((line, proof))) = read_line(&mut &*data, 128).now_or_never() {
        let _ = Service::named(&line);
        let _ = proved_key(&proof, &line);
    }
    let _ = read_answer(&mut &*data, &PeerId::from_bytes([b'p'; 32])).now_or_never();
    let _ = read_frame(&mut &*data, data.len()).now_or_never();
    message::<AdmissionRequest>(data);
    message::<AdmissionAnswer>(data);
}

fn message<T: DeserializeOwned + Serialize>(data: &[u8]) {
    // Its length goes before it.
    let framed = [&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes(), data].concat();
    let Some(Ok(message)) = read_message::<T>(&mut framed.as_slice()).now_or_never() else { return };
    let raw = postcard::to_stdvec(&message).expect("what was read can be written");
    assert!(postcard::from_bytes::<T>(&raw).is_ok());
}

/// Cursors, ids and times, as they stand in paths, queries and headers.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    text_round_trips::<Cursor>(text);
    text_round_trips::<MessageId>(text);
    text_round_trips::<PeerId>(text);
    text_round_trips::<PeerTag>(text);
    text_round_trips::<InviteId>(text);
    text_round_trips::<KnockId>(text);
    text_round_trips::<Timestamp>(text);
    let _ = parse_duration(text);
    let _ = IdempotencyKey::parse(text);
    assert_eq!(printable(&printable(text)), printable(text));
    if let Ok(params) = text.parse::<Uri>().map_err(drop).and_then(|uri| QueryParams::of(&uri).map_err(drop)) {
        let _ = params.check(&["since", "limit"]);
        let _ = (params.text("since").is_ok(), params.number("limit", 1, 1000_u32).is_ok());
    }
}

/// The file of settings.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = read_text(Path::new("config.toml"), text);
}

/// The bodies of the calls of the local API.
pub fn api_body(data: &[u8]) {
    if let Some(request) = body::<SendRequest>(data) {
        let _ = ValidMessage::validate(request);
    }
    if let Some(request) = body::<NameRequest>(data) {
        let _ = check_member_name(&request.name);
    }
    body::<JoinRequest>(data);
    body::<KnockAnswer>(data);
    body::<MemberRoleRequest>(data);
    body::<InviteRequest>(data);
    body::<TokenRequest>(data);
    body::<ReadMark>(data);
    body::<WebSessionRequest>(data);
}

/// Reads a body as a handler does. What is written anew is taken, too.
fn body<T: DeserializeOwned + Serialize>(data: &[u8]) -> Option<T> {
    let body = parse::<T>(data).ok()?;
    let again = serde_json::to_vec(&body).expect("it can be written");
    assert!(parse::<T>(&again).is_ok(), "{}", String::from_utf8_lossy(&again));
    Some(body)
}

#[cfg(test)]
mod tests;
