//! History: its order, pages without gaps or repeats, filters, and a complete text index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chat_core::log::entry::{Dep, Entry, Hlc, Incarnation};
use chat_core::output::BatchEntry;
use chat_proto::id::{EntryHash, MessageId};
use chat_proto::time::Timestamp;
use proptest::prelude::*;

use super::fixture::{StoreHome, THEN, TestAuthor, TestStore, shown, texts};
use crate::store::error::ReadError;
use crate::store::tables::models::{Edge, HistoryFilter, MessageRow};

const WORDS: [&str; 4] = ["red", "green", "blue", "red green"];

/// One entry: its author, its time after the start, and the words of its messages.
type Written = (u8, u64, Vec<usize>);

fn written() -> impl Strategy<Value = Vec<Written>> {
    let words = prop::collection::vec(0..WORDS.len(), 1..4);
    prop::collection::vec((0..3u8, 0..4u64, words), 1..25).prop_map(|mut plan| {
        // Within a log no date runs back; between logs they arrive in any order.
        for author in 0..3 {
            let mut times: Vec<u64> = plan.iter().filter(|entry| entry.0 == author).map(|entry| entry.1).collect();
            times.sort_unstable();
            plan.iter_mut().filter(|entry| entry.0 == author).zip(times).for_each(|(entry, time)| entry.1 = time);
        }
        plan
    })
}

/// Rows that the store must hold, in order.
fn rows(entries: &[Arc<Entry>], texts: &[Vec<usize>]) -> Vec<MessageRow> {
    let mut rows = Vec::new();
    let mut newest = BTreeMap::new();
    for (entry, texts) in entries.iter().zip(texts) {
        let order = entry.header().order_after(newest.get(&entry.log()).copied());
        newest.insert(entry.log(), order);
        for (index, text) in (0..).zip(texts) {
            rows.push(MessageRow {
                id: MessageId { entry: entry.hash(), index },
                log: entry.log(),
                seq: entry.seq(),
                order,
                time: entry.header().time,
                clock_off_ms: None,
                to: Vec::new(),
                text: WORDS[*text].into(),
                dropped: false,
                reply_to: None,
                event: rows.len() as u64 + 1,
            });
        }
    }
    rows.sort_by_key(MessageRow::position);
    rows
}

async fn filled(plan: &[Written]) -> (StoreHome, TestStore, Vec<MessageRow>, [TestAuthor; 3]) {
    // Two logs of one author, and incarnations on both sides of the sign bit.
    let mut authors = [
        TestAuthor::with(1, Incarnation(1)),
        TestAuthor::with(1, Incarnation(u64::MAX)),
        TestAuthor::with(2, Incarnation(1 << 63)),
    ];
    let mut entries = Vec::new();
    for (author, later, words) in plan {
        let body = texts(&words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>());
        let time = Hlc::from_wall(Timestamp::from_ms(THEN + later));
        entries.push(authors[usize::from(*author)].write_at(body, time));
    }
    let home = StoreHome::new(authors[0].id());
    let mut opened = home.open_in_room().await;
    opened.persist(&entries.iter().collect::<Vec<_>>()).await;
    let words: Vec<_> = plan.iter().map(|(_, _, words)| words.clone()).collect();
    (home, opened, rows(&entries, &words), authors)
}

/// Reads everything that a filter selects, page by page, in one direction.
async fn pages(opened: &TestStore, mut filter: HistoryFilter, backwards: bool) -> Vec<MessageRow> {
    let mut all = Vec::new();
    loop {
        let page = opened.store.history(filter.clone()).await.expect("reads");
        assert!(page.messages.len() <= filter.limit as usize);
        let edge = if backwards { page.messages.first() } else { page.messages.last() };
        let edge = edge.map(|row| Edge::Message(row.id));
        if backwards {
            filter.before = edge.or(filter.before);
            all.splice(0..0, page.messages);
        } else {
            filter.after = edge.or(filter.after);
            all.extend(page.messages);
        }
        if !page.more {
            return all;
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_in_both_directions_give_the_same_order(plan in written(), limit in 1..7u32) {
        run(async {
            let (_home, opened, all, _) = filled(&plan).await;
            let filter = HistoryFilter { limit, ..HistoryFilter::default() };
            assert_eq!(pages(&opened, filter.clone(), true).await, all);
            let after = Some(Edge::Time(Timestamp::from_ms(0)));
            assert_eq!(pages(&opened, HistoryFilter { after, ..filter }, false).await, all);
        });
    }

    #[test]
    fn filtered_pages_have_exactly_the_matching_messages(plan in written(), limit in 1..5u32, author in 0..3usize, word in 0..3usize, ms in 0..5u64) {
        run(async {
            let (_home, opened, all, authors) = filled(&plan).await;
            let author = authors[author].id();
            let time = Timestamp::from_ms(THEN + ms);
            let filter = HistoryFilter {
                limit,
                from: Some(author),
                words: Some(WORDS[word].to_uppercase()),
                after: Some(Edge::Time(time)),
                ..HistoryFilter::default()
            };
            let wanted: Vec<_> = all
                .iter()
                .filter(|row| row.log.author == author && row.text.contains(WORDS[word]) && row.time.wall() >= time)
                .cloned()
                .collect();
            assert_eq!(pages(&opened, filter.clone(), false).await, wanted);

            let filter = HistoryFilter { after: None, from: None, words: None, before: Some(Edge::Time(time)), ..filter };
            let wanted: Vec<_> = all.iter().filter(|row| row.time.wall() < time).cloned().collect();
            assert_eq!(pages(&opened, filter, true).await, wanted);
        });
    }

    #[test]
    fn both_edges_bound_a_page(plan in written(), a: prop::sample::Index, b: prop::sample::Index) {
        run(async {
            let (_home, opened, all, _) = filled(&plan).await;
            let (a, b) = (a.index(all.len()), b.index(all.len()));
            let filter = HistoryFilter {
                limit: 1000,
                after: Some(Edge::Message(all[a].id)),
                before: Some(Edge::Message(all[b].id)),
                ..HistoryFilter::default()
            };
            let page = opened.store.history(filter).await.expect("reads");
            assert_eq!(page.messages, all.get(a + 1..b).unwrap_or_default());
            assert!(!page.more);
        });
    }

    #[test]
    fn any_words_can_be_searched(words: String) {
        run(async {
            let (_home, opened, _, _) = filled(&[(0, 0, vec![0])]).await;
            let filter = HistoryFilter { limit: 5, words: Some(words), ..HistoryFilter::default() };
            assert!(opened.store.history(filter).await.is_ok());
        });
    }
}

async fn found(opened: &TestStore, words: &str) -> BTreeSet<String> {
    let filter = HistoryFilter { limit: 1000, words: Some(words.into()), ..HistoryFilter::default() };
    opened.store.history(filter).await.expect("reads").messages.into_iter().map(|row| row.text).collect()
}

#[tokio::test]
async fn search_finds_messages_stored_just_before() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    for round in 0..3 {
        let said: Vec<String> = (0..700).map(|n| format!("needle round{round} {n}")).collect();
        let entries: Vec<_> = said
            .chunks(100)
            .map(|said| ann.write(texts(&said.iter().map(String::as_str).collect::<Vec<_>>())))
            .collect();
        opened.persist(&entries.iter().collect::<Vec<_>>()).await;
        assert_eq!(found(&opened, &format!("needle round{round}")).await.len(), 700, "in round {round}");
    }
    opened.persist(&[&ann.say("Zoë says «hello» — don't panic")]).await;
    for words in ["zoe", "ZOË", "hello says", "don't", "\"panic", "panic ! *"] {
        assert_eq!(found(&opened, words).await.len(), 1, "{words}");
    }
    for words in ["hell", "hello OR nothing", "NOT zoe", "text:zoe", ""] {
        assert_eq!(found(&opened, words).await.len(), 0, "{words}");
    }
}

#[tokio::test]
async fn damaged_text_index_is_rebuilt() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("one needle"), &ann.say("two needles")]).await;
    assert_eq!(found(&opened, "needle").await.len(), 1);
    opened.pragma("UPDATE search_data SET block = x'ffffffffffff' WHERE id > 1").await;
    assert_eq!(found(&opened, "needle").await.len(), 1);
    opened.persist(&[&ann.say("a third needle")]).await;
    assert_eq!(found(&opened, "needle").await.len(), 2);
}

#[tokio::test]
async fn unknown_edge_is_an_error_that_names_it() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let entry = ann.say("one");
    opened.persist(&[&entry]).await;
    let held = entry.hash();
    for (entry, index) in [(EntryHash::from_bytes([3; 32]), 0), (held, 1), (held, 1024), (held, u16::MAX)] {
        let id = MessageId { entry, index };
        let filter = HistoryFilter { limit: 1, before: Some(Edge::Message(id)), ..HistoryFilter::default() };
        assert!(matches!(opened.store.history(filter).await, Err(ReadError::UnknownMessage(named)) if named == id));
        assert_eq!(opened.store.message(id).await.expect("reads"), None);
    }
    let nobody = HistoryFilter { limit: 1, from: Some(TestAuthor::new(9).id()), ..HistoryFilter::default() };
    assert_eq!(opened.store.history(nobody).await.expect("reads").messages, []);
}

#[tokio::test]
async fn order_is_not_that_of_the_dates_and_times_select_by_date() {
    let (mut ann, mut bob) = (TestAuthor::new(1), TestAuthor::new(2));
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let at = |later: u64| Hlc::from_wall(Timestamp::from_ms(THEN + later));
    let ahead = ann.write_at(texts(&["ahead"]), at(5_000_000));
    let mut header = bob.write_at(texts(&["answer"]), at(1_000)).header().clone();
    header.deps = vec![Dep::order(bob.id(), at(5_000_000).next())];
    let answer = Arc::new(Entry::sign(header, texts(&["answer"]), &bob.key).expect("signs"));
    let mut back = ann.write_at(texts(&["back"]), at(2_000)).header().clone();
    back.deps.clear();
    let back = Arc::new(Entry::sign(back, texts(&["back"]), &ann.key).expect("signs"));
    let items = [&ahead, &answer, &back].map(|entry| BatchEntry { clock_off_ms: Some(7), ..shown(entry) });
    opened.try_persist(items.to_vec()).await.expect("persists");
    opened.store.close().await;

    let opened = home.open();
    assert_eq!(opened.texts().await[0], "ahead");
    let edge = Some(Edge::Time(Timestamp::from_ms(THEN + 1_500)));
    let found = |filter: HistoryFilter| async { opened.store.history(filter).await.expect("reads").messages };
    let before = found(HistoryFilter { before: edge, limit: 9, ..HistoryFilter::default() }).await;
    assert_eq!(before.iter().map(|row| row.text.as_str()).collect::<Vec<_>>(), ["answer"]);
    let after = found(HistoryFilter { after: edge, limit: 9, ..HistoryFilter::default() }).await;
    assert_eq!(after.iter().map(|row| row.text.as_str()).collect::<Vec<_>>(), ["ahead", "back"]);
    assert_eq!(after[1].time, at(2_000), "the date is what the author's clock showed");
    assert_eq!(after[1].clock_off_ms, Some(7));
    let restored = opened.store.restore().await.expect("reads").expect("in a room");
    let head = restored.heads.iter().find(|head| head.log == ann.log).expect("held");
    assert_eq!((head.label, head.order, head.first), (at(2_000), at(5_000_000).next(), at(5_000_000)));
}
