//! The commands that make one call each, and how they fail.

use chat_proto::api::invites::NewInvite;
use chat_proto::api::peers::PeerView;
use chat_proto::error::{ErrorCode, Problem};

use crate::answers::{INVITES, TICKET};
use crate::fake::{Fake, FakeFault};
use crate::process::{RunResult, chat, run, run_with_input};

fn done(out: &str) -> RunResult {
    RunResult { code: Some(0), out: out.into(), err: String::new() }
}

#[test]
fn without_a_daemon_every_command_says_how_to_start_one() {
    let fake = Fake::stopped();
    let run_directory = fake.path().join("run").display().to_string();
    for arguments in [&["status"][..], &["send", "hi"], &["tail"], &["log"], &["join", "192.0.2.7"], &[]] {
        let ended = run(&fake, arguments);
        let err = format!("chat: no daemon answers at {run_directory}: start one with 'chatd start'\n");
        assert_eq!(ended, RunResult { code: Some(3), out: String::new(), err }, "{arguments:?}");
    }
    let home = fake.path().display().to_string();
    let ended = run(&fake, &["--home", &home, "peers"]);
    assert!(ended.err.ends_with(&format!("start one with 'chatd start --home {home}'\n")), "{}", ended.err);
}

#[test]
fn socket_of_a_dead_daemon_is_no_daemon() {
    let fake = Fake::stopped();
    drop(std::os::unix::net::UnixListener::bind(fake.path().join("run/chatd.sock")));
    assert_eq!(run(&fake, &["status"]).code, Some(3));
}

#[test]
fn refusal_has_its_reason_hint_and_exit_code() {
    let fake = Fake::start();
    let problem = Problem::new(ErrorCode::Forbidden, "only an admin\nremoves others").with_hint("ask one");
    fake.fault("POST /v1/members/bob/remove", FakeFault::Refuse(problem));
    let err = "chat: only an admin removes others\nhint: ask one\n".to_owned();
    assert_eq!(run(&fake, &["remove", "bob"]), RunResult { code: Some(4), out: String::new(), err });
    assert_eq!(run(&fake, &["role", "bob", "admin"]).err, "bob is now an admin\n");
    assert_eq!(run(&fake, &["role", "@bob", "king"]).code, Some(2));
    assert_eq!(run(&fake, &["remove", "no/body"]).code, Some(1));
    assert!(fake.state().requests.iter().any(|request| request.path == "/v1/members/no%2Fbody"));
}

#[test]
fn usage_error_exits_with_2() {
    let fake = Fake::stopped();
    for arguments in [&["nonsense"][..], &["send", "--wait", "never", "x"], &["tail", "-n", "x"], &["admit", "bob"]] {
        assert_eq!(run(&fake, arguments).code, Some(2), "{arguments:?}");
    }
    assert_eq!(chat(fake.path(), &["status"]).env("CHATD_URL", "nonsense").run().code(), 2);
}

#[test]
fn environment_selects_a_daemon_over_tcp() {
    let fake = Fake::stopped();
    let url = fake.listen_tcp("secret");
    let run = |token: &str| -> RunResult {
        chat(fake.path(), &["status", "--json"]).env("CHATD_URL", &url).env("CHATD_TOKEN", token).run().into()
    };
    assert_eq!(run("secret").code, Some(0));
    let err = "chat: no token\nhint: 'chatd env' prints it\n".to_owned();
    assert_eq!(run("wrong"), RunResult { code: Some(4), out: String::new(), err });
    let host = url.strip_prefix("http://");
    assert!(fake.state().requests.iter().all(|request| request.header("host") == host));
}

#[test]
fn daemon_without_a_socket_is_found_through_its_api_file() {
    let fake = Fake::stopped();
    let url = fake.listen_tcp("secret");
    let run_directory = fake.path().join("run");
    let api = serde_json::json!({"pid": 1, "socket": "/nowhere/chatd.sock", "url": url, "version": "0.1.0"});
    std::fs::write(run_directory.join("api.json"), api.to_string()).expect("written");
    assert_eq!(run(&fake, &["peers"]).code, Some(3), "no token, no call");
    std::fs::write(run_directory.join("token"), "secret\n").expect("written");
    assert_eq!(run(&fake, &["peers"]).code, Some(0));
}

#[test]
fn peers_prints_a_table_or_one_object_per_line() {
    let fake = Fake::start();
    let table = run(&fake, &["peers"]).out;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "NAME         TAG       ONLINE  PATH      RTT  LAST SEEN  ROLE        RANK");
    assert_eq!(lines[2], "bob          aibaeaqc  yes     direct  0.4ms  now        rendezvous     1");
    let json = run(&fake, &["peers", "--json"]).out;
    let names: Vec<String> =
        json.lines().map(|line| serde_json::from_str::<PeerView>(line).expect("a peer a line").peer.name).collect();
    assert_eq!(names, ["alice", "bob"]);
}

#[test]
fn status_and_why_print_text_or_one_object() {
    let fake = Fake::start();
    let status = run(&fake, &["status"]).out;
    assert!(status.contains("rendezvous bob, term 3; this peer is on the succession list\n"), "{status}");
    assert!(status.contains("room       lab, by invitation\n"), "{status}");
    let why = run(&fake, &["why"]).out;
    assert!(why.starts_with("bob (aibaeaqc) holds the rendezvous role in term 3, for "), "{why}");
    assert!(why.contains("alice fell silent"), "{why}");
    for command in ["status", "why"] {
        let json = run(&fake, &[command, "--json"]).out;
        assert_eq!(json.lines().count(), 1);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
    }
}

#[test]
fn invite_prints_its_ticket_only() {
    let fake = Fake::start();
    let ended = run(&fake, &["invite", "--expires", "2h", "--uses", "5"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "chat1secretticket\n"));
    assert!(ended.err.contains("up to 10 newcomers until 2096-10-02 07:06"), "{}", ended.err);
    assert_eq!(fake.requests("POST /v1/invites", 1)[0].body, r#"{"expires_ms":7200000,"uses":5}"#);
    let new: NewInvite = serde_json::from_str(&run(&fake, &["invite", "--json"]).out).expect("an invite");
    assert_eq!(new.ticket, TICKET);
}

#[test]
fn invite_is_revoked_by_what_was_typed() {
    let fake = Fake::start();
    let list = run(&fake, &["invites"]).out;
    assert!(list.contains(&format!("{}  alice  3/10  2096-10-02 07:06  valid\n", INVITES[1])), "{list}");
    assert_eq!(run(&fake, &["revoke", "1211"]).code, Some(0));
    let ended = run(&fake, &["revoke", "1"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), "chat: '1' is not an invite\n"));
    assert_eq!(run(&fake, &["revoke", ""]).code, Some(2), "an empty id would be another call");
}

#[test]
fn knock_is_listed_admitted_and_denied() {
    let fake = Fake::start();
    let ended = run(&fake, &["knocks"]);
    assert!(ended.out.contains("car\u{FFFD}ol"), "{}", ended.out);
    assert!(ended.out.contains("apple river stone"), "{}", ended.out);
    assert_eq!(run(&fake, &["admit", "3"]), done(""));
    assert_eq!(run(&fake, &["deny", "3"]), done(""));
    let bodies: Vec<String> = fake.requests("POST /v1/knocks/3", 2).into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [r#"{"admit":true}"#, r#"{"admit":false}"#]);
}

#[test]
fn name_rooms_join_and_leave_make_their_calls() {
    let fake = Fake::start();
    assert_eq!(run(&fake, &["name", "zoë"]), done(""));
    assert_eq!(fake.requests("PUT /v1/name", 1)[0].body, r#"{"name":"zoë"}"#);
    assert_eq!(run(&fake, &["name", "two words"]).code, Some(1));
    assert!(run(&fake, &["rooms"]).out.contains("192.0.2.7:24283"));
    assert_eq!(run(&fake, &["join", "192.0.2.7", "--name", "al"]).err, "joined lab\n");
    assert_eq!(run_with_input(&fake, &["join", "-"], b"chat1abc\n").err, "joined lab\n");
    let bodies: Vec<String> = fake.requests("POST /v1/join", 2).into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [r#"{"target":"192.0.2.7","name":"al"}"#, r#"{"target":"chat1abc"}"#]);
    fake.fault("GET /v1/events", FakeFault::Refuse(Problem::new(ErrorCode::NotInRoom, "in no room yet")));
    assert_eq!(run(&fake, &["join", "chat1def"]).err, "joined lab\n");
    assert_eq!(run(&fake, &["leave"]).code, Some(0), "a script is not asked");
    assert_eq!(run(&fake, &["leave", "--yes"]).code, Some(0));
    let forced: Vec<bool> =
        fake.requests("POST /v1/leave", 2).iter().map(|request| request.query.contains_key("force")).collect();
    assert_eq!(forced, [false, true]);
}

#[test]
fn completions_and_manual_need_no_daemon() {
    let fake = Fake::stopped();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(&fake, &["completions", shell]).out.contains("CHAT_COMPLETE"), "{shell}");
    }
    assert!(run(&fake, &["man"]).out.contains(".TH chat"));
    assert!(run(&fake, &["man", "send"]).out.contains(".TH chat-send"));
    assert_eq!(run(&fake, &["man", "nothing"]).code, Some(2));
    assert_eq!(run(&fake, &["--help"]).code, Some(0));
}
