//! Pages of history and single messages.

use std::sync::Arc;

use chat_proto::api::messages::{MessagePage, SentMessage};
use chat_proto::error::ErrorCode;
use serde_json::json;

use crate::http::tests::test_api::{ApiTestRoom, BOB, CAROL, TestApi, peer};
use crate::http::tests::test_client::{TestRequest, TestResponse, TestStream, soon};

fn texts(answer: &TestResponse) -> Vec<String> {
    answer.json::<MessagePage>().messages.into_iter().map(|message| message.text).collect()
}

async fn told() -> (TestApi, ApiTestRoom) {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["one", "two", "three"]).await;
    stage.bob_says(&["four"]).await;
    (running, stage)
}

#[tokio::test]
async fn page_is_the_last_one_or_with_after_the_first_one() {
    let (running, _stage) = told().await;
    let get = async |query: &str| TestRequest::get(format!("/v1/messages{query}")).send(&running.unix).await;
    assert_eq!(texts(&get("").await), ["one", "two", "three", "four"]);
    let last = get("?limit=2").await;
    assert_eq!(texts(&last), ["three", "four"]);
    let page: MessagePage = last.json();
    assert!(page.more);
    let before = format!("?before={}&limit=5", page.messages[0].id);
    assert_eq!(texts(&get(&before).await), ["one", "two"]);
    let all: MessagePage = get("").await.json();
    assert_eq!(texts(&get(&format!("?after={}&limit=1", all.messages[0].id)).await), ["two"]);
    assert_eq!(texts(&get("?after=2020-01-01T00:00:00Z&limit=1").await), ["one"]);
    assert!(texts(&get("?before=2020-01-01T00:00:00Z").await).is_empty());
    assert_eq!(texts(&get("?q=three").await), ["three"]);
    assert_eq!(texts(&get("?from=@BOB").await).len(), 4);
    assert!(texts(&get("?from=dave").await).is_empty(), "a former member can be named");
    assert!(texts(&get("?with=bob").await).is_empty());
}

#[tokio::test]
async fn page_has_a_cursor_for_each_message() {
    let (running, _stage) = told().await;
    let page: MessagePage = TestRequest::get("/v1/messages?limit=3").send(&running.unix).await.json();
    assert_eq!(page.cursors.len(), 3);
    for (cursor, rest) in page.cursors.iter().zip([vec!["three", "four"], vec!["four"], vec![]]) {
        let events = TestRequest::get(format!("/v1/events?type=message&since={cursor}"));
        assert_eq!(TestStream::open(&running.unix, events).await.texts(rest.len()).await, rest);
    }
}

#[tokio::test]
async fn invalid_query_parameter_is_named() {
    let (running, _stage) = told().await;
    let unknown = format!("{}.0", "0".repeat(64));
    for (query, code, word) in [
        ("limit=0", ErrorCode::BadRequest, "'limit' is '0': expected a number from 1 to 1000"),
        ("limit=1001", ErrorCode::BadRequest, "1 to 1000"),
        ("limit=x", ErrorCode::BadRequest, "1 to 1000"),
        ("limit=-1", ErrorCode::BadRequest, "1 to 1000"),
        ("limit=", ErrorCode::BadRequest, "'limit' is empty"),
        ("q=%20", ErrorCode::BadRequest, "'q' is empty"),
        ("before=yesterday", ErrorCode::BadRequest, "'before' is 'yesterday'"),
        ("from=nobody", ErrorCode::UnknownMember, "no member is called 'nobody'"),
        ("from=erin", ErrorCode::UnknownMember, "'erin' could be"),
        (&format!("after={unknown}"), ErrorCode::NotFound, "is not stored here"),
    ] {
        let problem = TestRequest::get(format!("/v1/messages?{query}")).send(&running.unix).await.problem();
        assert_eq!(problem.code, code, "{query}");
        assert!(problem.detail.contains(word), "{query}: {}", problem.detail);
    }
}

#[tokio::test]
async fn message_lists_the_peers_that_hold_it() {
    let (running, stage) = told().await;
    let sent = TestRequest::post("/v1/messages", &json!({"text": "hello"})).send(&running.unix).await;
    let location = sent.header("location").to_owned();
    let sent: SentMessage = sent.json();
    assert_eq!(location, format!("/v1/messages/{}", sent.message.id));
    assert_eq!((sent.state.stored, sent.state.copies, sent.state.complete), (true, 0, true));
    stage.script.hold(vec![peer(BOB)]);
    let got: SentMessage = TestRequest::get(location).send(&running.unix).await.json();
    assert_eq!(got.message, sent.message);
    assert_eq!((got.state.copies, got.state.held_by[0].name.as_str()), (1, "bob"));
    let other = TestRequest::get(format!("/v1/messages/{}.0", "a".repeat(64))).send(&running.unix).await.problem();
    assert_eq!(other.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn direct_message_is_readable_for_its_sender() {
    let (running, stage) = told().await;
    let body = json!({"text": "psst", "to": ["@Bob", &peer(BOB).to_string(), "ann"]});
    let sent: SentMessage = TestRequest::post("/v1/messages", &body).send(&running.unix).await.json();
    assert_eq!(
        sent.message.to.iter().map(|to| to.name.as_str()).collect::<Vec<_>>(),
        ["bob"],
        "once, without the sender"
    );
    let page = TestRequest::get("/v1/messages?with=bob").send(&running.unix).await;
    assert_eq!(page.json::<MessagePage>().messages, [sent.message]);
    assert_eq!(stage.script.posts(), 1);
}

#[tokio::test]
async fn invalid_recipient_is_named() {
    let (running, stage) = told().await;
    let many: Vec<String> = (0..17).map(|n| format!("p{n}")).collect();
    for (to, code, word) in [
        (json!(["nobody"]), ErrorCode::UnknownMember, "'nobody'"),
        (json!(["bob", "dave"]), ErrorCode::UnknownMember, "'dave' is no longer a member"),
        (json!(["carol"]), ErrorCode::NoKeys, "'carol' has not published keys"),
        (json!(["erin"]), ErrorCode::UnknownMember, "could be"),
        (json!(["ann"]), ErrorCode::TooLong, "besides its sender"),
        (json!(many), ErrorCode::TooLong, "17 recipients"),
    ] {
        let problem =
            TestRequest::post("/v1/messages", &json!({"text": "x", "to": to})).send(&running.unix).await.problem();
        assert_eq!(problem.code, code, "{to}");
        assert!(problem.detail.contains(word), "{}", problem.detail);
    }
    assert_eq!(stage.script.posts(), 0);
}

#[tokio::test]
async fn send_to_a_member_without_keys_waits_until_they_are_published() {
    let (running, stage) = told().await;
    let carol = peer(CAROL);
    let ask = TestRequest::post("/v1/messages", &json!({"text": "psst", "to": ["carol"]}));
    let watching = stage.roster.receiver_count();
    let published = async {
        while stage.roster.receiver_count() <= watching {
            tokio::task::yield_now().await;
        }
        stage.roster.send_modify(|roster| {
            let mut new = roster.as_ref().clone();
            let keys = new.people[&peer(BOB)].keys;
            Arc::make_mut(new.people.get_mut(&carol).expect("carol is a member")).keys = keys;
            *roster = Arc::new(new);
        });
    };
    let (sent, ()) = soon(async { tokio::join!(ask.send(&running.unix), published) }).await;
    assert_eq!(sent.json::<SentMessage>().message.to[0].id, carol);
}

#[tokio::test]
async fn answer_carries_what_it_answers_wherever_it_is_read() {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["x".repeat(300).as_str()]).await;
    let asked = TestRequest::get("/v1/messages").send(&running.unix).await.json::<MessagePage>().messages.remove(0);
    for to in [json!([]), json!(["bob"])] {
        let body = json!({"text": "yes", "to": to, "reply_to": asked.id});
        let sent = TestRequest::post("/v1/messages", &body).send(&running.unix).await;
        assert_eq!(sent.status, 201);
        let answer = sent.json::<SentMessage>().message;
        assert_eq!(answer.reply_to, Some(asked.id));
        let quote = answer.quote.clone().expect("it is shown here");
        assert_eq!((quote.from.name.as_str(), quote.text.as_str()), ("bob", "x".repeat(200).as_str()));
        let page = TestRequest::get("/v1/messages?limit=1").send(&running.unix).await.json::<MessagePage>();
        assert_eq!(page.messages, std::slice::from_ref(&answer));
        let one = TestRequest::get(format!("/v1/messages/{}", answer.id)).send(&running.unix).await;
        assert_eq!(one.json::<SentMessage>().message, answer);
    }
    let unknown = format!("{}.0", "7".repeat(64));
    for (wrong, status) in [(unknown.as_str(), 404), ("7.0", 400)] {
        let refused = TestRequest::post("/v1/messages", &json!({"text": "yes", "reply_to": wrong})).send(&running.unix);
        assert_eq!(refused.await.status, status, "{wrong}");
    }
    assert_eq!(stage.script.posts(), 2, "what is refused is not posted");
}
