//! The durable image proves itself: stories of what a program did, and what a power cut leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::durable_image::{DurableImage, Names, compile};

struct Disk {
    directory: TempDir,
    image: DurableImage,
}

impl Disk {
    fn new(names: Names) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        fs::create_dir(&data).expect("a fresh directory");
        let image = DurableImage::new(&data, directory.path(), names);
        Self { directory, image }
    }

    /// Runs the probe with a story; says whether every call in it succeeded.
    fn run(&self, story: &str) -> bool {
        self.image.begin();
        let probe = compile("durable-image-probe", "probe.c", &[]);
        let status = Command::new(probe)
            .args(story.split_whitespace())
            .current_dir(self.directory.path().join("data"))
            .envs(self.image.environment())
            .status()
            .expect("the probe was compiled");
        status.success()
    }

    /// What is left after the power is back: paths with contents.
    fn after_power_cut(&self) -> BTreeMap<String, String> {
        self.image.restore();
        let mut found = BTreeMap::new();
        let data = self.directory.path().join("data");
        list(&data, &data, &mut found);
        found
    }
}

fn list(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("our own directory") {
        let path = entry.expect("our own directory").path();
        let name = path.strip_prefix(root).expect("below the root");
        let name = name.display().to_string();
        if path.is_dir() {
            found.insert(format!("{name}/"), String::new());
            list(root, &path, found);
        } else {
            let text = fs::read_to_string(&path).expect("a text of the test");
            found.insert(name, text);
        }
    }
}

#[track_caller]
fn check_with(names: Names, story: &str, expected: &[(&str, &str)]) {
    let disk = Disk::new(names);
    assert!(disk.run(story), "{story}");
    let expected = expected.iter();
    let expected: BTreeMap<_, _> = expected
        .map(|&(path, text)| (path.to_owned(), text.to_owned()))
        .collect();
    assert_eq!(disk.after_power_cut(), expected, "{names:?}: {story}");
}

/// The same is left whichever way the disk treats names.
#[track_caller]
fn check(story: &str, expected: &[(&str, &str)]) {
    check_with(Names::Late, story, expected);
    check_with(Names::Early, story, expected);
}

#[test]
fn what_is_synced_stays() {
    check("write a hello sync a syncdir .", &[("a", "hello")]);
    check("write a hello datasync a syncdir .", &[("a", "hello")]);
    check("dsync a hello syncdir .", &[("a", "hello")]);
    check(
        "log a one syncdir . log a -two append a -lost",
        &[("a", "one-two")],
    );
}

#[test]
fn what_is_not_synced_is_lost() {
    check("write a hello syncdir .", &[("a", "")]);
    check(
        "write a hello sync a syncdir . append a -more",
        &[("a", "hello")],
    );
    check(
        "write a one write b two sync b syncdir .",
        &[("a", ""), ("b", "two")],
    );
}

#[test]
fn appended_bytes_stay_once_they_are_synced() {
    let story = "write a one sync a syncdir . append a -two sync a append a -three";
    check(story, &[("a", "one-two")]);
}

#[test]
fn overwritten_bytes_stay_once_they_are_synced() {
    let story = "write a 0123456789 sync a syncdir . at a 2 xx at a 7 yy sync a at a 0 zz";
    check(story, &[("a", "01xx456yy9")]);
}

#[test]
fn a_file_without_a_durable_name_is_lost() {
    check_with(Names::Late, "write a hello sync a", &[]);
    check_with(Names::Early, "write a hello sync a", &[("a", "hello")]);
}

#[test]
fn renames_are_durable_late_or_too_early() {
    let story = "write a old sync a syncdir . write b new rename b a";
    check_with(Names::Late, story, &[("a", "old")]);
    check_with(Names::Early, story, &[("a", "")]);
    let story = "write a old sync a syncdir . write b new sync b rename b a syncdir .";
    check(story, &[("a", "new")]);
}

#[test]
fn removals_are_durable_late_or_at_once() {
    let story = "write a kept sync a syncdir . remove a";
    check_with(Names::Late, story, &[("a", "kept")]);
    check_with(Names::Early, story, &[]);
    check("write a kept sync a syncdir . remove a syncdir .", &[]);
}

#[test]
fn a_name_used_again_does_not_show_the_old_contents() {
    let story = "write a old sync a syncdir . remove a write a new";
    check_with(Names::Late, story, &[("a", "old")]);
    check_with(Names::Early, story, &[("a", "")]);
}

#[test]
fn truncation_is_durable_when_it_is_synced() {
    check(
        "write a hello sync a syncdir . truncate a 2",
        &[("a", "hello")],
    );
    check(
        "write a hello sync a syncdir . truncate a 2 sync a",
        &[("a", "he")],
    );
    let story = "write a hello sync a syncdir . truncate a 1 truncate a 3 sync a";
    check(story, &[("a", "h\0\0")]);
    check(
        "write a hello sync a syncdir . write a x sync a",
        &[("a", "x")],
    );
}

#[test]
fn a_directory_needs_its_own_name() {
    check_with(Names::Late, "mkdir d write d/a x sync d/a syncdir d", &[]);
    let story = "mkdir d syncdir . write d/a x sync d/a syncdir d";
    check(story, &[("d/", ""), ("d/a", "x")]);
}

#[test]
fn what_was_there_at_the_start_is_durable() {
    let disk = Disk::new(Names::Late);
    assert!(disk.run("mkdir d write d/a hello write b x sync d/a syncdir d syncdir ."));
    disk.image.restore();
    assert!(disk.run("append d/a -lost write c lost"));
    let left = disk.after_power_cut();
    assert_eq!(left["d/a"], "hello");
    assert_eq!(left["b"], "");
    assert!(!left.contains_key("c"));
}

#[test]
fn a_process_that_is_killed_leaves_its_image() {
    let disk = Disk::new(Names::Late);
    assert!(!disk.run("write a kept sync a syncdir . write b lost kill"));
    assert_eq!(disk.after_power_cut().len(), 1);
}

#[test]
fn syncs_can_be_made_to_lie() {
    let disk = Disk::new(Names::Late);
    disk.image.ignore_syncs();
    assert!(disk.run("write a hello sync a dsync b hello log c hello syncdir ."));
    assert_eq!(disk.after_power_cut(), BTreeMap::new());
}

#[test]
fn a_full_disk_refuses_to_grow() {
    let disk = Disk::new(Names::Late);
    disk.image.set_limit(10);
    assert!(disk.run("write a 0123456789"), "it fits exactly");
    assert_eq!(disk.image.used(), 10);
    let disk = Disk::new(Names::Late);
    disk.image.set_limit(10);
    assert!(!disk.run("write a 0123456789A"));
    assert!(!disk.run("write b x"));
    assert!(disk.run("at a 3 xx"), "what is there can be overwritten");
    assert!(disk.run("remove a"));
    assert!(disk.run("write b 0123456789"), "what was freed can be used");
    assert!(!disk.run("reserve c 1"));
}
