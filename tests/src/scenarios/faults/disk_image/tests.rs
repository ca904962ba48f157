//! Tests of the model of a disk.

use super::*;

/// A file of which `before` was flushed and `after` was not, then a second file that replaces it.
fn recording() -> Recording {
    let path = |name: &str| PathBuf::from("/home").join(name);
    let raw = [vec![1; 1024], vec![2; 2048]].concat();
    let open = |inode, name: &str, created, directory| Operation::Open {
        inode,
        path: path(name),
        created,
        truncated: false,
        directory,
    };
    let operations = vec![
        open(1, "a", true, false),
        Operation::Write { inode: 1, at: 0, data: 0..1024 },
        Operation::FlushBegins { inode: 1, thread: 9 },
        Operation::Write { inode: 1, at: 512, data: 1024..3072 },
        Operation::FlushEnds { inode: 1, thread: 9 },
        Operation::Open { inode: 2, path: "/home".into(), created: false, truncated: false, directory: true },
        Operation::FlushBegins { inode: 2, thread: 9 },
        Operation::FlushEnds { inode: 2, thread: 9 },
        Operation::Mark { number: 5 },
        open(3, "b", true, false),
        Operation::Rename { from: path("b"), to: path("a") },
    ];
    Recording { raw, operations }
}

fn left(operations: usize, flushes: Flushes, loss: PowerLoss, seed: u64) -> Option<Vec<u8>> {
    let recording = recording();
    let mut disk = Disk::new(&recording, flushes);
    disk.advance_to(operations);
    disk.after_loss(loss, &mut Random::new(seed)).remove(Path::new("/home/a"))
}

#[test]
fn what_was_written_before_a_flush_began_is_safe_when_it_has_ended() {
    let flushed = vec![1; 1024];
    assert_eq!(left(8, Flushes::Honest, PowerLoss::Forgotten, 1), Some(flushed));
    assert_eq!(left(7, Flushes::Honest, PowerLoss::Forgotten, 1), None, "the name is not flushed");
    assert_eq!(left(8, Flushes::Ignored, PowerLoss::Forgotten, 1), None);
    let whole = [vec![1; 512], vec![2; 2048]].concat();
    assert_eq!(left(8, Flushes::Honest, PowerLoss::Kept, 1), Some(whole));
    assert_eq!(recording().marks(), [(9, 5)]);
}

#[test]
fn sectors_that_were_not_flushed_are_left_in_any_combination() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let content = left(8, Flushes::Honest, PowerLoss::Scattered, seed).expect("the name is flushed");
        assert_eq!(content[..512], [1; 512]);
        let sectors: Vec<u8> = content.chunks(512).map(|sector| sector[0]).collect();
        assert!(content.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "{sectors:?}");
        seen.insert(sectors);
    }
    assert!(seen.contains(&vec![1, 1]), "none");
    assert!(seen.contains(&vec![1, 2, 2, 2, 2]), "all");
    assert!(seen.contains(&vec![1, 1, 0, 0, 0]), "only the length");
    assert!(seen.contains(&vec![1, 1, 0, 2]), "one in the middle");
}

#[test]
fn file_that_replaces_another_may_come_without_it() {
    assert_eq!(left(11, Flushes::Honest, PowerLoss::Kept, 1), Some(Vec::new()));
    assert_eq!(left(11, Flushes::Honest, PowerLoss::Forgotten, 1).map(|content| content.len()), Some(1024));
}
