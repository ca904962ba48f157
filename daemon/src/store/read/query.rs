//! History: pages of messages, in the order that is the same at every peer.

use chat_core::log::entry::Hlc;
use chat_proto::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::store::error::ReadError;
use crate::store::tables::messages::{COLUMNS, EVENT, JOINS, position, read};
use crate::store::tables::models::{Edge, HistoryFilter, HistoryPage, MessagePosition};
use crate::store::tables::row_ids::find_peer;
use crate::store::tables::sql_types::{counted, ordered, uncounted};
use crate::store::tables::text_index;

/// A page of history. The text index must be up to date if the filter has words.
pub(in crate::store) fn history(connection: &Connection, filter: &HistoryFilter) -> Result<HistoryPage, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    let Some(query) = HistorySql::new(&snapshot, filter)? else { return Ok(HistoryPage::default()) };
    let limit = usize::try_from(filter.limit.clamp(1, HistoryFilter::LIMIT_MAX)).unwrap_or(1);
    let mut statement = snapshot.prepare_cached(&query.sql(limit))?;
    let rows =
        statement.query_map(params_from_iter(query.values), |row| read(&snapshot, row, 1, uncounted(row.get(0)?)))?;
    let mut messages = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = messages.len() > limit;
    messages.truncate(limit);
    if filter.after.is_none() {
        messages.reverse();
    }
    Ok(HistoryPage { messages, more })
}

struct HistorySql {
    direction: Direction,
    index: &'static str,
    conditions: Vec<&'static str>,
    values: Vec<Value>,
}

#[derive(Clone, Copy)]
enum Direction {
    Forwards,
    Backwards,
}

impl HistorySql {
    /// `None` if nothing can match.
    fn new(connection: &Connection, filter: &HistoryFilter) -> Result<Option<Self>, ReadError> {
        let direction = if filter.after.is_some() { Direction::Forwards } else { Direction::Backwards };
        // Named, as without statistics SQLite may choose another index and sort the whole result.
        let index = match filter {
            HistoryFilter { words: Some(_), .. } => "",
            HistoryFilter { with: Some(_), .. } => "INDEXED BY messages_direct",
            HistoryFilter { from: Some(_), .. } => "INDEXED BY messages_author",
            HistoryFilter { .. } => "INDEXED BY messages_order",
        };
        let mut query = Self { direction, index, conditions: vec!["m.visible = 1"], values: Vec::new() };
        if let Some(from) = &filter.from {
            let Some(author) = find_peer(connection, from)? else { return Ok(None) };
            query.add("m.author = ?", [Value::Integer(author)]);
        }
        if let Some(with) = &filter.with {
            let Some(peer) = find_peer(connection, with)? else { return Ok(None) };
            query.add(
                "m.direct = 1 AND (m.author = ? OR EXISTS
                (SELECT 1 FROM recipients r WHERE r.message = m.id AND r.peer = ?))",
                [Value::Integer(peer), Value::Integer(peer)],
            );
        }
        if let Some(words) = &filter.words {
            let Some(expression) = text_index::expression(words) else { return Ok(None) };
            query.add("m.id IN (SELECT rowid FROM search WHERE search MATCH ?)", [Value::Text(expression)]);
        }
        // A message is never ordered before its date, but may be after it: only the first of the two bounds the order.
        // The first comparison lets SQLite use the index; the second one is exact.
        const BEFORE: &str =
            "m.hlc <= ? AND (m.hlc, m.label, p.key, l.incarnation, n.seq, m.id % 1024) < (?, ?, ?, ?, ?, ?)";
        const AFTER: &str =
            "m.hlc >= ? AND (m.hlc, m.label, p.key, l.incarnation, n.seq, m.id % 1024) > (?, ?, ?, ?, ?, ?)";
        match filter.before {
            Some(Edge::Time(time)) => query.add("m.label < ?", [hlc(time)]),
            Some(Edge::Message(id)) => {
                let position = position(connection, id)?.ok_or(ReadError::UnknownMessage(id))?;
                query.add(BEFORE, edge(position));
            }
            None => {}
        }
        match filter.after {
            Some(Edge::Time(time)) => query.add("m.hlc >= ? AND m.label >= ?", [hlc(time), hlc(time)]),
            Some(Edge::Message(id)) => {
                let position = position(connection, id)?.ok_or(ReadError::UnknownMessage(id))?;
                query.add(AFTER, edge(position));
            }
            None => {}
        }
        Ok(Some(query))
    }

    fn add<const N: usize>(&mut self, condition: &'static str, values: [Value; N]) {
        self.conditions.push(condition);
        self.values.extend(values);
    }

    /// Asks for one message more than the limit, which tells whether there are more.
    fn sql(&self, limit: usize) -> String {
        let direction = match self.direction {
            Direction::Forwards => "ASC",
            Direction::Backwards => "DESC",
        };
        let order = ["m.hlc", "m.label", "p.key", "l.incarnation", "n.seq", "m.id"]
            .map(|column| format!("{column} {direction}"));
        format!(
            "SELECT {EVENT}, {COLUMNS} FROM messages m {} {JOINS} WHERE {} ORDER BY {} LIMIT {}",
            self.index,
            self.conditions.join(" AND "),
            order.join(", "),
            limit + 1
        )
    }
}

fn hlc(time: Timestamp) -> Value {
    Value::Integer(ordered(Hlc::from_wall(time).0))
}

fn edge(position: MessagePosition) -> [Value; 7] {
    let order = Value::Integer(ordered(position.order.0));
    [
        order.clone(),
        order,
        Value::Integer(ordered(position.time.0)),
        Value::Blob(position.author.as_bytes().to_vec()),
        Value::Integer(ordered(position.incarnation.0)),
        Value::Integer(counted(position.seq.0)),
        Value::Integer(position.index.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::schema::MIGRATIONS;
    use crate::store::tables::row_ids::peer_row;
    use chat_proto::id::PeerId;

    /// How SQLite executes a query: the index it reads messages by, and whether it sorts the whole result.
    fn plan(filter: &HistoryFilter) -> (String, bool) {
        let mut db = Connection::open_in_memory().expect("opens");
        MIGRATIONS.to_latest(&mut db).expect("migrates");
        peer_row(&db, &PeerId::from_bytes([1; 32])).expect("inserts");
        let query = HistorySql::new(&db, filter).expect("builds").expect("may match");
        let sql = format!("EXPLAIN QUERY PLAN {}", query.sql(100));
        let mut statement = db.prepare(&sql).expect("prepares");
        let steps = statement.query_map(params_from_iter(query.values), |row| row.get(3)).expect("explains");
        let steps = steps.collect::<rusqlite::Result<Vec<String>>>().expect("explains");
        (steps[0].clone(), steps.iter().any(|step| step == "USE TEMP B-TREE FOR ORDER BY"))
    }

    #[test]
    fn search_sorts_only_what_it_finds() {
        let (first, sorts) = plan(&HistoryFilter { limit: 9, words: Some("x".into()), ..HistoryFilter::default() });
        assert_eq!(first, "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)");
        assert!(sorts);
    }

    #[test]
    fn page_is_read_by_index_without_sorting() {
        let peer = Some(PeerId::from_bytes([1; 32]));
        let all = HistoryFilter { limit: 100, ..HistoryFilter::default() };
        let edge = Some(Edge::Time(Timestamp::from_ms(5)));
        for (filter, index) in [
            (all.clone(), "messages_order"),
            (HistoryFilter { before: edge, ..all.clone() }, "messages_order"),
            (HistoryFilter { after: edge, ..all.clone() }, "messages_order (hlc>?)"),
            (HistoryFilter { from: peer, ..all.clone() }, "messages_author (author=?)"),
            (HistoryFilter { from: peer, after: edge, ..all.clone() }, "messages_author (author=? AND hlc>?)"),
            (HistoryFilter { with: peer, ..all.clone() }, "messages_direct"),
        ] {
            let (first, sorts) = plan(&filter);
            assert!(first.contains(index), "{filter:?}: {first}");
            assert!(!sorts, "{filter:?}");
        }
    }
}
