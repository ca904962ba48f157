//! The hello on TCP: its content, and the cost of garbage and silence.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::peers::*;
use crate::net::settings::{Listen, NetSettings};
use crate::net::tcp::hello::{HelloError, ask};

async fn say(to: SocketAddr, text: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.expect("connects");
    // The other end may close before all is written.
    let _ = stream.write_all(text).await;
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn hello_names_peer_and_room() {
    let members = members(1).await;
    let hello = ask(members[0].addr()).await.expect("answers");
    assert_eq!(hello.peer, members[0].id());
    let room = hello.room.expect("in a room");
    assert_eq!((room.id, room.name.as_str(), room.open), (ROOM, "lab", false));
    let line = say(members[0].addr(), b"CHATD HELLO 1\nand more").await;
    assert!(line.ends_with("}\n") && line.lines().count() == 1, "one line of JSON: {line}");
    assert_eq!(ask(outsider(5).await.addr()).await.expect("answers").room, None);
}

#[tokio::test]
async fn garbage_is_not_answered() {
    let members = members(1).await;
    let long = vec![b'x'; 100_000];
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"CHATD HELLO 2\n", b"\n", b"\xff\xfe\n", b"CHATD HELLO 1\r\n", &long]
    {
        assert_eq!(say(members[0].addr(), garbage).await, "");
    }
    assert!(ask(members[0].addr()).await.is_ok());
}

#[tokio::test]
async fn silent_callers_are_bounded_and_closed() {
    let members = members(1).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(members[0].addr()).await.expect("connects"));
    }
    for stream in &mut silent {
        let mut answer = [0; 1];
        // Closed or reset: both are an end.
        let read = timeout(DEADLINE, stream.read(&mut answer)).await.expect("no caller is served for ever");
        assert!(read.is_err() || read.is_ok_and(|bytes| bytes == 0));
    }
    assert!(began.elapsed() < DEADLINE);
    assert!(ask(members[0].addr()).await.is_ok(), "others are served");
}

#[tokio::test]
async fn other_servers_are_not_taken_for_chatd() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let addr = server.local_addr().expect("bound");
    let (answer, ()) = tokio::join!(ask(addr), async {
        let (mut stream, _) = server.accept().await.expect("accepts");
        stream.write_all(b"220 mail.example ESMTP\r\n").await.expect("writes");
    });
    assert!(matches!(answer, Err(HelloError::NotChatd)));
    drop(server);
    assert!(matches!(ask(addr).await, Err(HelloError::Unreachable)));
}

#[tokio::test]
async fn all_addresses_share_one_port() {
    let everywhere = NetSettings { listen: Listen { ip: None, port: Some(0) }, ..settings() };
    let peer = start(secret(0), everywhere, roster(&[], false)).await;
    let port = peer.net.port();
    assert!(ask(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.is_ok());
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
        assert!(ask(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.is_ok());
    }
    assert!(peer.net.addrs().iter().all(|addr| addr.port() == port));
}
