//! The durable image of a data directory: what a power cut would leave of it.
//!
//! The work is done by a preloaded library, `tests/durable_image/shim.c`, which says what the
//! model is. Here it is compiled, switched on for a process, and the image put in place of the
//! data once the process has been killed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// When creations, renames and removals become durable: a file system may do either.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Names {
    /// At fsync of the directory, not before.
    Late,
    /// At once, before the contents of the files.
    Early,
}

/// The image of one data directory, and the size of the disk that the directory pretends to be.
pub(crate) struct DurableImage {
    data: PathBuf,
    image: PathBuf,
    control: PathBuf,
    names: Names,
}

impl DurableImage {
    /// An image of `data`, kept in the directory `beside` on the same file system.
    pub(crate) fn new(data: &Path, beside: &Path, names: Names) -> Self {
        let this = Self {
            data: data.to_owned(),
            image: beside.join("image"),
            control: beside.join("control"),
            names,
        };
        fs::write(&this.control, [0; 24]).expect("the test's directory is writable");
        this
    }

    /// The environment with which a process keeps the image.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let names = match self.names {
            Names::Late => "late",
            Names::Early => "early",
        };
        let library = compile("libdurableimage.so", "shim.c", &["-shared", "-fPIC"]);
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("DURABLE_IMAGE_DATA", self.data.display().to_string()),
            ("DURABLE_IMAGE_DIR", self.image.display().to_string()),
            ("DURABLE_IMAGE_CONTROL", self.control.display().to_string()),
            ("DURABLE_IMAGE_NAMES", names.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Makes room for a fresh image: before every start of the process.
    pub(crate) fn begin(&self) {
        if self.image.exists() {
            fs::remove_dir_all(&self.image).expect("our own directory can be removed");
        }
        fs::create_dir(&self.image).expect("our own directory can be made");
    }

    /// The power comes back: the data directory becomes what was durable. The process must be
    /// dead.
    pub(crate) fn restore(&self) {
        // Killed before it had started, the process has changed nothing.
        if !self.image.join("entries").exists() {
            return;
        }
        fs::remove_dir_all(&self.data).expect("our own directory can be removed");
        fs::create_dir(&self.data).expect("our own directory can be made");
        for (object, path) in self.entries() {
            let target = self.data.join(&path);
            // A directory that is not durable itself takes all that is in it along.
            if !target.parent().is_some_and(Path::exists) {
                continue;
            }
            if object == 0 {
                fs::create_dir(&target).expect("an entry comes once");
            } else {
                let object = self.image.join("objects").join(object.to_string());
                fs::copy(&object, &target).expect("every entry has its object");
            }
        }
        fs::remove_dir_all(&self.image).expect("our own directory can be removed");
    }

    /// The durable names with the numbers of their objects, parents before what is in them.
    fn entries(&self) -> Vec<(u64, PathBuf)> {
        let text = fs::read_to_string(self.image.join("entries")).expect("the library has run");
        let lines = text.lines().map(|line| {
            let (object, path) = line.split_once(' ').expect("a number and a path");
            let object = object.parse().expect("a number and a path");
            (object, PathBuf::from(path))
        });
        let mut entries: Vec<_> = lines.collect();
        entries.sort_by_key(|(_, path)| path.components().count());
        entries
    }

    /// Limits the disk to this many bytes; 0 is no limit.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.set(0, bytes);
    }

    /// From now on syncs succeed and do nothing: the process might as well not call them.
    pub(crate) fn ignore_syncs(&self) {
        self.set(2, 1);
    }

    fn set(&self, index: u64, value: u64) {
        let control = OpenOptions::new().write(true).open(&self.control);
        let control = control.expect("our own file can be opened");
        control
            .write_all_at(&value.to_ne_bytes(), index * 8)
            .expect("our own file is writable");
    }

    /// Bytes of the disk that the data occupies, while the process runs.
    pub(crate) fn used(&self) -> u64 {
        let mut bytes = [0; 8];
        let control = File::open(&self.control).expect("our own file can be opened");
        control
            .read_exact_at(&mut bytes, 8)
            .expect("it has 24 bytes");
        u64::from_ne_bytes(bytes)
    }
}

/// Compiles one of the C files of `tests/durable_image`, once per process.
pub(crate) fn compile(output: &str, source: &str, flags: &[&str]) -> PathBuf {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    let once = if source == "shim.c" { &SHIM } else { &PROBE };
    once.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/durable_image");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Test binaries that run at the same time must not see half a library.
        let fresh = target.join(format!("{output}.{}", std::process::id()));
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let result = Command::new(&compiler)
            .args(["-O2", "-Wall", "-pthread"])
            .args(flags)
            .arg("-o")
            .arg(&fresh)
            .arg(sources.join(source))
            .output()
            .unwrap_or_else(|error| panic!("the durability tests need a C compiler: {error}"));
        let complaints = String::from_utf8_lossy(&result.stderr);
        assert!(
            result.status.success(),
            "{compiler} {source}:\n{complaints}"
        );
        let target = target.join(output);
        fs::rename(&fresh, &target).expect("cargo's directory is writable");
        target
    })
    .clone()
}
