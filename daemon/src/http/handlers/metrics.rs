//! `GET /metrics`: metrics in the text format of Prometheus (exposition format 0.0.4).

use std::fmt::{Display, Write};
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::http::api_state::{Api, READERS_MAX};
use crate::http::handlers::status::node_status;

/// Media type of the answer.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics of the process, and of the room if there is one.
pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let mut page = Page::default();
    let network = api.process.network();
    let readers = READERS_MAX.saturating_sub(api.readers.available_permits());
    page.gauge("chatd_peer_connections", "Connections to members.", network.connections);
    page.counter("chatd_queue_drops_total", "Connections dropped because their queue was full.", network.queue_drops);
    page.gauge("chatd_event_streams", "Open event streams.", readers);
    page.gauge(
        "chatd_start_time_seconds",
        "When the daemon started, since the Unix epoch.",
        api.started_at.as_ms() / 1000,
    );
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Memory of the process.", bytes);
    }
    if let Some(room) = api.loaded_room() {
        page.gauge("chatd_messages", "Messages in the history that this peer can read.", room.store.messages_count());
        page.counter(
            "chatd_store_commits_total",
            "Transactions flushed to disk since the database was opened.",
            room.store.commits_count(),
        );
        page.counter("chatd_events_total", "Events written since the database was created.", room.store.cursor_now());
        // The other metrics are useful even if the room does not answer.
        if let Ok(status) = node_status(&room).await {
            page.gauge("chatd_members", "Members of the room.", status.members);
            page.gauge("chatd_members_online", "Members that are online, this peer included.", status.online);
            if let Some(rendezvous) = status.rendezvous {
                page.gauge("chatd_rendezvous_term", "Term of the rendezvous role.", rendezvous.term);
            }
        }
    }
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], page.0)
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.write("gauge", name, help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.write("counter", name, help, value);
    }

    fn write(&mut self, kind: &str, name: &str, help: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
}

/// Resident memory as reported by the kernel; none without procfs.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
