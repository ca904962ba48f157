//! What is on a disk after the power failed: everything that was flushed, and an arbitrary part of the rest.
//!
//! [`Recording`] reads what `disk_shim.c` recorded; [`Disk`] replays it operation by operation and can say at any point
//! what a loss of power would leave ([`Disk::after_loss`]). The model is the one of ALICE (Pillai and others, OSDI 2014):
//!
//! * Content that was written before a flush of its file began is safe once that flush has ended.
//! * The name of a file is safe once its directory was flushed. Of later changes to a directory, a part from the oldest on
//!   is left.
//! * Of later writes any may be left, in any combination, in units of sectors; a file may have its new length without its
//!   new content, and reads as zeros there.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::random::Random;

/// Number of bytes that a disk writes as a whole.
const SECTOR: usize = 512;

const MAGIC: u32 = 0x4b53_4944;

/// Length of a record before its paths and data.
const HEAD_BYTES: usize = 40;

/// An operation, in the order in which the daemon did them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operation {
    Open {
        inode: u64,
        path: PathBuf,
        created: bool,
        truncated: bool,
        directory: bool,
    },
    Write {
        inode: u64,
        at: usize,
        data: Range<usize>,
    },
    Truncate {
        inode: u64,
        length: usize,
    },
    FlushBegins {
        inode: u64,
        thread: u64,
    },
    FlushEnds {
        inode: u64,
        thread: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    /// Added by the test: this message was acknowledged.
    Mark {
        number: u64,
    },
}

/// A recording, whole in memory.
#[derive(Debug)]
pub struct Recording {
    raw: Vec<u8>,
    operations: Vec<Operation>,
}

/// The record with which a test notes in a recording that a message was acknowledged.
pub fn mark(number: u64) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD_BYTES);
    record.extend(MAGIC.to_ne_bytes());
    record.extend(100_u32.to_ne_bytes());
    record.extend(0_u64.to_ne_bytes());
    record.extend(number.to_ne_bytes());
    record.resize(HEAD_BYTES, 0);
    record
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// When the file cannot be read, or is none.
    pub fn read(log: &Path) -> io::Result<Self> {
        let raw = std::fs::read(log)?;
        let (mut operations, mut at) = (Vec::new(), 0);
        while at < raw.len() {
            let (operation, next) = operation(&raw, at).ok_or_else(|| io::Error::other("not a recording"))?;
            operations.push(operation);
            at = next;
        }
        Ok(Self { raw, operations })
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The marks, each with the number of operations up to and including it.
    pub fn marks(&self) -> Vec<(usize, u64)> {
        let numbered = self.operations.iter().enumerate();
        let mark = |(at, operation): (usize, &Operation)| {
            if let Operation::Mark { number } = operation { Some((at + 1, *number)) } else { None }
        };
        numbered.filter_map(mark).collect()
    }
}

fn operation(raw: &[u8], at: usize) -> Option<(Operation, usize)> {
    let word = |offset: usize| Some(u32::from_ne_bytes(raw.get(at + offset..at + offset + 4)?.try_into().ok()?));
    let long = |offset: usize| Some(u64::from_ne_bytes(raw.get(at + offset..at + offset + 8)?.try_into().ok()?));
    let size = |number: u64| usize::try_from(number).ok();
    if word(0)? != MAGIC {
        return None;
    }
    let (inode, number) = (long(8)?, long(16)?);
    let path_from = at + HEAD_BYTES;
    let other_from = path_from + size(word(24)?.into())?;
    let data_from = other_from + size(word(28)?.into())?;
    let end = data_from + size(long(32)?)?;
    let path = |range: Range<usize>| Some(PathBuf::from(std::str::from_utf8(raw.get(range)?).ok()?));
    let (first, second) = (path(path_from..other_from)?, path(other_from..data_from)?);
    let operation = match word(4)? {
        1 => {
            let how = |bit: u64| number & bit != 0;
            Operation::Open { inode, path: first, created: how(1), truncated: how(2), directory: how(4) }
        }
        2 => Operation::Write { inode, at: size(number)?, data: data_from..end },
        3 => Operation::Truncate { inode, length: size(number)? },
        4 => Operation::FlushBegins { inode, thread: number },
        5 => Operation::FlushEnds { inode, thread: number },
        6 => Operation::Rename { from: first, to: second },
        7 => Operation::Unlink { path: first },
        100 => Operation::Mark { number },
        _ => return None,
    };
    (end <= raw.len()).then_some((operation, end))
}

/// What a loss of power does to what was not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerLoss {
    /// All of it is gone.
    Forgotten,
    /// All of it is there, as after a kill.
    Kept,
    /// It is there up to some write, which is torn.
    Torn,
    /// Any sectors of it are there.
    Scattered,
}

/// Whether the disk does what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushes {
    /// What it says it has flushed is safe.
    Honest,
    /// It only says so.
    Ignored,
}

type FileId = usize;

/// A change to the content of a file.
#[derive(Clone, Debug)]
enum ContentChange {
    Write { at: usize, data: Range<usize> },
    Length(usize),
}

/// A change to a directory.
#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, FileId),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Debug, Default)]
struct FileState {
    flushed: Vec<u8>,
    /// Changes since, each with its number among all operations.
    pending: Vec<(usize, ContentChange)>,
    /// Length as the daemon sees it.
    length: usize,
}

/// A disk in the middle of a recording.
#[derive(Debug)]
pub struct Disk<'a> {
    recording: &'a Recording,
    flushes: Flushes,
    done: usize,
    files: Vec<FileState>,
    by_inode: HashMap<u64, FileId>,
    directories: HashMap<u64, PathBuf>,
    /// Names as the daemon sees them.
    names: BTreeMap<PathBuf, FileId>,
    flushed_names: BTreeMap<PathBuf, FileId>,
    pending_names: Vec<(usize, NameChange)>,
    /// When flushes that have not ended began, by thread and inode.
    flushing: HashMap<(u64, u64), usize>,
}

impl<'a> Disk<'a> {
    /// An empty disk before the first operation.
    pub fn new(recording: &'a Recording, flushes: Flushes) -> Self {
        Self {
            recording,
            flushes,
            done: 0,
            files: Vec::new(),
            by_inode: HashMap::new(),
            directories: HashMap::new(),
            names: BTreeMap::new(),
            flushed_names: BTreeMap::new(),
            pending_names: Vec::new(),
            flushing: HashMap::new(),
        }
    }

    /// Goes on until `operations` operations are done.
    pub fn advance_to(&mut self, operations: usize) {
        while self.done < operations.min(self.recording.len()) {
            self.step();
            self.done += 1;
        }
    }

    fn step(&mut self) {
        match &self.recording.operations[self.done] {
            Operation::Open { inode, path, directory: true, .. } => {
                self.directories.insert(*inode, path.clone());
            }
            Operation::Open { inode, path, created, truncated, .. } => {
                let file = self.open(path, *created);
                self.by_inode.insert(*inode, file);
                if *truncated {
                    self.change(file, ContentChange::Length(0));
                }
            }
            Operation::Write { inode, at, data } => {
                if let Some(file) = self.by_inode.get(inode).copied() {
                    self.change(file, ContentChange::Write { at: *at, data: data.clone() });
                }
            }
            Operation::Truncate { inode, length } => {
                if let Some(file) = self.by_inode.get(inode).copied() {
                    self.change(file, ContentChange::Length(*length));
                }
            }
            Operation::FlushBegins { inode, thread } => {
                self.flushing.insert((*thread, *inode), self.done);
            }
            Operation::FlushEnds { inode, thread } => {
                let began = self.flushing.remove(&(*thread, *inode));
                if let (Some(began), Flushes::Honest) = (began, self.flushes) {
                    self.flush(*inode, began);
                }
            }
            Operation::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                    self.pending_names.push((self.done, NameChange::Rename(from.clone(), to.clone())));
                }
            }
            Operation::Unlink { path } => {
                if self.names.remove(path).is_some() {
                    self.pending_names.push((self.done, NameChange::Unlink(path.clone())));
                }
            }
            Operation::Mark { .. } => {}
        }
    }

    fn open(&mut self, path: &Path, created: bool) -> FileId {
        if let Some(file) = self.names.get(path).filter(|_| !created) {
            return *file;
        }
        let file = self.files.len();
        self.files.push(FileState::default());
        self.names.insert(path.to_owned(), file);
        self.pending_names.push((self.done, NameChange::Link(path.to_owned(), file)));
        file
    }

    fn change(&mut self, file: FileId, change: ContentChange) {
        let file = &mut self.files[file];
        file.length = match &change {
            ContentChange::Write { at, data } => file.length.max(at + data.len()),
            ContentChange::Length(length) => *length,
        };
        file.pending.push((self.done, change));
    }

    /// Makes safe what was done to a file or directory before an operation.
    fn flush(&mut self, inode: u64, before: usize) {
        if let Some(directory) = self.directories.get(&inode) {
            let (safe, rest) = std::mem::take(&mut self.pending_names)
                .into_iter()
                .partition(|(at, change)| *at < before && is_in(change, directory));
            self.pending_names = rest;
            for (_, change) in safe as Vec<_> {
                apply_name(&mut self.flushed_names, &change);
            }
        } else if let Some(file) = self.by_inode.get(&inode) {
            let file = &mut self.files[*file];
            let safe = file.pending.partition_point(|(at, _)| *at < before);
            for (_, change) in file.pending.drain(..safe) {
                apply(&mut file.flushed, &change, &self.recording.raw);
            }
        }
    }

    /// The files as the daemon sees them.
    pub fn now(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.after_loss(PowerLoss::Kept, &mut Random::new(0))
    }

    /// Number of changes to the content of files whose names begin like this that are not flushed.
    pub fn unflushed(&self, start: &str) -> usize {
        let begins = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
        self.names.iter().filter(|(path, _)| begins(path)).map(|(_, file)| self.files[*file].pending.len()).sum()
    }

    /// What is left when the power fails now.
    pub fn after_loss(&self, loss: PowerLoss, random: &mut Random) -> BTreeMap<PathBuf, Vec<u8>> {
        let tear = random.within(self.oldest_pending()..self.done);
        let mut names = self.flushed_names.clone();
        let kept_names = match loss {
            PowerLoss::Forgotten => 0,
            PowerLoss::Kept => self.pending_names.len(),
            PowerLoss::Torn => self.pending_names.partition_point(|(at, _)| *at <= tear),
            PowerLoss::Scattered => random.within(0..self.pending_names.len() + 1),
        };
        self.pending_names.iter().take(kept_names).for_each(|(_, change)| apply_name(&mut names, change));
        names.into_iter().map(|(path, file)| (path, self.content(&self.files[file], loss, tear, random))).collect()
    }

    fn oldest_pending(&self) -> usize {
        let oldest = self.files.iter().filter_map(|file| file.pending.first()).map(|(at, _)| *at);
        oldest.min().unwrap_or(self.done.saturating_sub(1))
    }

    fn content(&self, file: &FileState, loss: PowerLoss, tear: usize, random: &mut Random) -> Vec<u8> {
        let mut content = file.flushed.clone();
        for (at, change) in &file.pending {
            match loss {
                PowerLoss::Forgotten => {}
                PowerLoss::Kept => apply(&mut content, change, &self.recording.raw),
                PowerLoss::Torn if *at < tear => apply(&mut content, change, &self.recording.raw),
                PowerLoss::Torn if *at == tear => self.apply_some(&mut content, change, random),
                PowerLoss::Torn => {}
                PowerLoss::Scattered => self.apply_some(&mut content, change, random),
            }
        }
        if loss == PowerLoss::Scattered && random.one_in(2) {
            content.resize(file.length.max(content.len()), 0);
        }
        content
    }

    /// Applies a change, or any of its sectors.
    fn apply_some(&self, content: &mut Vec<u8>, change: &ContentChange, random: &mut Random) {
        let ContentChange::Write { at, data } = change else {
            if random.one_in(2) {
                apply(content, change, &self.recording.raw);
            }
            return;
        };
        let mut from = *at;
        while from < at + data.len() {
            let to = ((from / SECTOR + 1) * SECTOR).min(at + data.len());
            if random.one_in(2) {
                let data = data.start + from - at..data.start + to - at;
                apply(content, &ContentChange::Write { at: from, data }, &self.recording.raw);
            }
            from = to;
        }
    }
}

fn is_in(change: &NameChange, directory: &Path) -> bool {
    match change {
        NameChange::Link(path, _) | NameChange::Unlink(path) | NameChange::Rename(_, path) => {
            path.parent() == Some(directory)
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, FileId>, change: &NameChange) {
    match change {
        NameChange::Link(path, file) => {
            names.insert(path.clone(), *file);
        }
        NameChange::Unlink(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

fn apply(content: &mut Vec<u8>, change: &ContentChange, raw: &[u8]) {
    match change {
        ContentChange::Write { at, data } => {
            if content.len() < at + data.len() {
                content.resize(at + data.len(), 0);
            }
            content[*at..at + data.len()].copy_from_slice(&raw[data.clone()]);
        }
        ContentChange::Length(length) => content.resize(*length, 0),
    }
}

#[cfg(test)]
mod tests;
