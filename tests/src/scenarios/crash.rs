//! Kills daemons in the middle of a conversation and checks that no message that was acknowledged is lost.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chat_proto::api::messages::{Message, SendRequest};
use chat_proto::id::MessageId;

use crate::api::DaemonApi;
use crate::cluster::TestRoom;
use crate::eventually::eventually;
use crate::scenarios::faults::posting::{Acknowledged, post};

/// Who talks, and is killed.
const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// Calls that each peer's senders have open at once.
const SENDERS: usize = 8;

/// How long the histories may need to become the same after the last message.
const SETTLED_MAX: Duration = Duration::from_secs(120);

/// What happens.
#[derive(Clone, Copy, Debug)]
pub struct CrashPlan {
    /// Messages in all, sent by three peers.
    pub messages: usize,
    /// How often a daemon is killed while they are sent, in turns.
    pub kills: usize,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct CrashReport {
    /// Messages that were acknowledged, and are in every log, once, in the same order.
    pub messages: usize,
    /// Daemons that were killed and started again.
    pub kills: usize,
    /// Calls that were cut off and made again with the same key.
    pub cut_off: usize,
    /// From the first message to the last acknowledgement.
    pub sending: Duration,
    /// From the last acknowledgement until all logs were the same.
    pub settling: Duration,
}

/// A conversation in progress.
struct CrashTalk {
    plan: CrashPlan,
    next: AtomicUsize,
    cut_off: AtomicUsize,
    acknowledged: Mutex<HashMap<String, MessageId>>,
}

/// Runs it.
///
/// # Panics
/// When a message is lost, repeated or in another place in one of the logs.
#[track_caller]
pub fn run(plan: CrashPlan) -> CrashReport {
    let mut room = TestRoom::of(&NAMES);
    let conversation = CrashTalk {
        plan,
        next: AtomicUsize::new(0),
        cut_off: AtomicUsize::new(0),
        acknowledged: Mutex::new(HashMap::new()),
    };
    let begun = Instant::now();
    thread::scope(|scope| {
        for peer in &room.peers {
            for _ in 0..SENDERS {
                let (socket, name, conversation) = (peer.home().socket(), peer.name().to_owned(), &conversation);
                scope.spawn(move || conversation.send(&name, &socket));
            }
        }
        conversation.kill(&mut room);
    });
    let sending = begun.elapsed();
    let settled = Instant::now();
    let acknowledged = conversation.acknowledged.into_inner().expect("no sender has panicked");
    check(&room, &acknowledged, plan);
    CrashReport {
        messages: acknowledged.len(),
        kills: plan.kills,
        cut_off: conversation.cut_off.into_inner(),
        sending,
        settling: settled.elapsed(),
    }
}

impl CrashTalk {
    /// Sends the messages that no other sender has taken.
    fn send(&self, name: &str, socket: &Path) {
        let mut api = DaemonApi::unix(socket);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.messages {
                return;
            }
            let text = format!("message {number} by {name}");
            let message = SendRequest { text: text.clone(), ..SendRequest::default() };
            let key = format!("crash-{number}");
            let Acknowledged { sent, tries, .. } = post(&mut api, socket, &message, &key);
            if tries > 1 {
                self.cut_off.fetch_add(1, Ordering::Relaxed);
            }
            let before = self.acknowledged.lock().expect("no sender has panicked").insert(text, sent.message.id);
            assert_eq!(before, None, "every number is sent once");
        }
    }

    /// Kills one daemon after the other, spread over the conversation, and starts each again.
    fn kill(&self, room: &mut TestRoom) {
        for kill in 0..self.plan.kills {
            let threshold = self.plan.messages * (kill + 1) / (self.plan.kills + 1);
            eventually(SETTLED_MAX, "the conversation goes on", || {
                let done = self.acknowledged.lock().expect("no sender has panicked").len();
                if done >= threshold { Ok(()) } else { Err(format!("{done} messages of {threshold}")) }
            });
            let peer = &mut room.peers[kill % NAMES.len()];
            peer.kill();
            peer.start_again();
        }
    }
}

/// What 'chat log --json' of every peer prints, once it is complete.
#[track_caller]
fn check(room: &TestRoom, acknowledged: &HashMap<String, MessageId>, plan: CrashPlan) {
    assert_eq!(acknowledged.len(), plan.messages, "every message was acknowledged");
    eventually(SETTLED_MAX, "every daemon has every message", || {
        for peer in &room.peers {
            let messages = peer.api().status().messages;
            if messages != plan.messages as u64 {
                return Err(format!("{} has {messages} of {}", peer.name(), plan.messages));
            }
        }
        Ok(())
    });
    let logs = room.peers.iter().map(|peer| (peer.name(), peer.chat(&["log", "--all", "--json"]).json::<Message>()));
    let logs: Vec<(&str, Vec<Message>)> = logs.collect();
    for (name, log) in &logs {
        let ids: HashSet<MessageId> = log.iter().map(|message| message.id).collect();
        assert_eq!(ids.len(), log.len(), "{name} shows a message twice");
        let texts: HashMap<&str, MessageId> = log.iter().map(|message| (message.text.as_str(), message.id)).collect();
        for (text, id) in acknowledged {
            assert_eq!(texts.get(text.as_str()), Some(id), "{name} does not hold '{text}' as it was acknowledged");
        }
        assert_eq!(log.len(), acknowledged.len(), "{name} holds what nobody sent");
        let differs = log.iter().zip(&logs[0].1).position(|(one, two)| one != two);
        assert_eq!(differs, None, "{name} and {} differ in order", logs[0].0);
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, kills, cut_off, sending, settling } = self;
        let a_second = *messages as f64 / sending.as_secs_f64();
        write!(
            f,
            "{messages} messages acknowledged, {kills} daemons killed and started again, {cut_off} calls cut off and \
             repeated; sent in {:.1} s ({a_second:.0} a second), the same in every log {:.1} s later",
            sending.as_secs_f64(),
            settling.as_secs_f64()
        )
    }
}
