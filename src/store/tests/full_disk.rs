//! A full disk is waited out; everything else that fails ends the process.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::support::*;
use crate::store::{OpenError, SpaceState, Store, StoreOptions};

const MIB: u64 = 1024 * 1024;

#[test]
fn a_commit_that_finds_no_space_is_tried_again_with_the_ballast_gone() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let tries = Arc::new(AtomicU32::new(0));
    let hook = {
        let (full, tries) = (Arc::clone(&full), Arc::clone(&tries));
        move |_| {
            tries.fetch_add(1, Ordering::Relaxed);
            match full.load(Ordering::Relaxed) {
                true => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
                false => Ok(()),
            }
        }
    };
    let options = StoreOptions {
        ballast_bytes: MIB,
        write_hook: Some(Arc::new(hook)),
        ..StoreOptions::new(dir.path())
    };
    let (store, _) = Store::open(options).unwrap();
    let ballast = dir.path().join("ballast");
    while !ballast.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut changes = store.space_changes();
    let queue = FakeQueue::new(&store);
    full.store(true, Ordering::Relaxed);
    let ticket = {
        let visit = store.visit(0);
        queue.publish(&visit, b"waits for space");
        visit.ticket()
    };
    block_on(changes.wait_for(|state| *state == SpaceState::Full)).unwrap();
    assert!(!ballast.exists() && !store.is_durable(ticket));
    let before = tries.load(Ordering::Relaxed);
    while tries.load(Ordering::Relaxed) < before + 3 {
        std::thread::yield_now();
    }
    assert_eq!(store.space(), SpaceState::Full);
    full.store(false, Ordering::Relaxed);
    wait(&store, ticket);
    block_on(changes.wait_for(|state| *state == SpaceState::Ok)).unwrap();
    assert_eq!(live_seqs(&store, queue.id, 1), [1]);
    while !ballast.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A small file system, unmounted at the end. `None` where the test may not mount.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        Self::mount(dir.path(), &format!("size={mib}m")).then_some(Self(dir))
    }

    fn mount(dir: &Path, options: &str) -> bool {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir)
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    fn grow(&self, mib: u64) {
        assert!(Self::mount(self.0.path(), &format!("remount,size={mib}m")));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// C7, with a real file system: commits wait, an acknowledgement and a restart still find room, everything resumes.
#[test]
fn a_full_file_system_is_survived() {
    let Some(small) = Small::new(96) else {
        println!("skipped: mounting a tmpfs needs root");
        return;
    };
    let dir = small.0.path().join("data");
    let options = StoreOptions {
        ballast_bytes: 16 * MIB,
        ..StoreOptions::new(&dir)
    };
    let (store, _) = Store::open(options.clone()).unwrap();
    while !dir.join("ballast").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let queue = FakeQueue::new(&store);
    let mut durable = 0;
    let publish = |store: &Store| {
        let visit = store.visit(0);
        for _ in 0..10 {
            queue.publish(&visit, &[9; 15_000]);
        }
        visit.ticket()
    };
    let mut ticket = publish(&store);
    while store.space() == SpaceState::Ok {
        if store.is_durable(ticket) {
            durable += 10;
            ticket = publish(&store);
        }
    }
    assert!(durable > 1000, "{durable}");
    assert!(!dir.join("ballast").exists());
    assert_eq!(
        live_seqs(&store, queue.id, durable).len() as u64,
        durable,
        "reading goes on"
    );
    small.grow(256);
    wait(&store, ticket);
    assert_eq!(store.space(), SpaceState::Ok);
    let last = publish(&store);
    wait(&store, last);
    assert_eq!(
        live_seqs(&store, queue.id, durable + 20).len() as u64,
        durable + 20
    );
    close(store);
    let (store, recovered) = Store::open(options).unwrap();
    assert_eq!(recovered.queues[&queue.id].live_count, durable + 20);
    close(store);
}

#[test]
fn a_start_on_a_full_file_system_gives_the_ballast_up() {
    let Some(small) = Small::new(64) else {
        println!("skipped: mounting a tmpfs needs root");
        return;
    };
    let dir = small.0.path().join("data");
    let options = StoreOptions {
        ballast_bytes: 8 * MIB,
        ..StoreOptions::new(&dir)
    };
    let (store, _) = Store::open(options.clone()).unwrap();
    while !dir.join("ballast").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let queue = FakeQueue::new(&store);
    for _ in 0..20 {
        commit(&store, |visit| {
            for _ in 0..10 {
                queue.publish(visit, &[9; 15_000]);
            }
        });
    }
    close(store);
    let filler = small.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    let (store, recovered) = match Store::open(options.clone()) {
        Ok(opened) => opened,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(recovered.queues[&queue.id].live_count, 200);
    assert!(!dir.join("ballast").exists());
    commit(&store, |visit| queue.settle(visit, 1, 200));
    close(store);
    // Without ballast, the start says what is wrong.
    while io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    if let Err(error) = Store::open(options) {
        assert!(
            matches!(error, OpenError::NoSpace { .. } | OpenError::Failed { .. }),
            "{error}"
        );
    }
}

/// Runs in a process of its own, see below.
#[test]
#[ignore = "ends the process"]
fn child_with_a_failing_disk() {
    let dir = tempfile::tempdir().unwrap();
    let hook = |_| Err(io::Error::from_raw_os_error(libc::EIO));
    let (store, _) = Store::open(StoreOptions {
        write_hook: Some(Arc::new(hook)),
        ..options(dir.path())
    })
    .unwrap();
    let queue = FakeQueue::new(&store);
    commit(&store, |visit| {
        queue.publish(visit, b"lost");
    });
    println!("durable in spite of all");
}

#[test]
fn any_other_failed_write_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let path = concat!(module_path!(), "::child_with_a_failing_disk");
    let name = path.split_once("::").unwrap().1;
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program)
        .args(["--ignored", "--exact", name, "--nocapture"])
        .output()
        .unwrap();
    assert_eq!(child.status.signal(), Some(libc::SIGABRT), "{child:?}");
    assert!(!String::from_utf8_lossy(&child.stdout).contains("durable"));
}
