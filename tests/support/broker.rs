//! The broker as a process: started on a free port, killed, started again on the same data.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::peer::{PROTOCOL_HEADER, Peer};

/// How long a start may take before the test gives up. It bounds a hang; no test measures it.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A broker process with a data directory of its own. Both go when this is dropped, or when the
/// test process ends in any other way.
pub(crate) struct BrokerProcess {
    directory: PathBuf,
    config: Vec<String>,
    environment: Vec<(String, String)>,
    address: SocketAddr,
    child: Option<Child>,
    /// Kills the broker should this process vanish; see [`Self::watch`].
    watchdog: Option<Child>,
    keep: bool,
}

impl BrokerProcess {
    /// Starts a broker with the default configuration.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a broker with these lines of rabbitmq.conf on top of its listener.
    pub(crate) fn start_with(config: &[&str]) -> Self {
        let mut broker = Self::prepare(config);
        broker.boot();
        broker
    }

    /// Makes the directory and the configuration; the process is started by [`Self::boot`].
    pub(crate) fn prepare(config: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("leveret-test-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        fs::create_dir(directory.join("data")).expect("a fresh directory");
        Self {
            directory,
            config: config.iter().map(|&line| line.to_owned()).collect(),
            environment: Vec::new(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            child: None,
            watchdog: None,
            keep: std::env::var_os("LEVERET_TEST_KEEP").is_some(),
        }
    }

    /// Sets a variable of the broker's environment from its next start on.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Ends the process and starts it anew with these lines of rabbitmq.conf.
    pub(crate) fn reconfigure(&mut self, config: &[&str]) {
        self.kill9();
        self.config = config.iter().map(|&line| line.to_owned()).collect();
        self.boot();
    }

    /// Starts the process and waits until it answers a client.
    pub(crate) fn boot(&mut self) {
        self.spawn();
        self.await_ready();
    }

    /// Starts the process and returns at once.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        self.address = free_address();
        let mut lines = format!("listeners.tcp.1 = {}\n", self.address);
        for line in &self.config {
            lines.push_str(line);
            lines.push('\n');
        }
        let config = self.directory.join("leveret.conf");
        fs::write(&config, lines).expect("our own directory is writable");
        let log = self.open_log();
        let child = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(self.data_dir())
            .current_dir(&self.directory)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of an open file"))
            .stderr(log)
            .spawn()
            .expect("cargo has built the broker");
        self.watchdog = Some(self.watch(child.id()));
        self.child = Some(child);
    }

    /// Waits until the broker greets a client.
    pub(crate) fn await_ready(&mut self) {
        if let Err(status) = self.await_ready_or_end() {
            panic!(
                "the broker ended with {status} while it started:\n{}",
                self.log()
            );
        }
    }

    /// Waits until the broker greets a client, or until its process has ended: a broker may
    /// refuse to start on data that it cannot trust.
    pub(crate) fn await_ready_or_end(&mut self) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + START_PATIENCE;
        while !self.answers() {
            let child = self.child.as_mut().expect("the broker was spawned");
            if let Some(status) = child.try_wait().expect("our own child can be waited for") {
                return Err(status);
            }
            assert!(
                Instant::now() < deadline,
                "the broker does not answer:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn answers(&self) -> bool {
        Peer::dial(self.address).is_ok_and(|mut peer| {
            peer.try_send_raw(PROTOCOL_HEADER).is_ok() && peer.try_recv().is_ok()
        })
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            child.wait().expect("our own child can be waited for");
        }
        self.dismiss_watchdog();
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        let child = self.child.as_ref().expect("the broker runs");
        // The shell's own kill: a bare machine has no other.
        let sent = Command::new("sh")
            .args(["-c", r#"kill -TERM "$0""#, &child.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "kill works");
    }

    /// Waits for the end of a process that was asked to stop.
    pub(crate) fn await_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the broker runs");
        let status = child.wait().expect("our own child can be waited for");
        self.dismiss_watchdog();
        status
    }

    /// Kills the broker and starts it on the same data.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        self.boot();
    }

    /// Does the process still run?
    pub(crate) fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Where a test may keep files that live as long as the broker does.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All that the broker has written to stdout and stderr, over all its starts.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("broker.log")
    }

    fn open_log(&self) -> File {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        options
            .open(self.log_path())
            .expect("our own directory is writable")
    }

    /// A shell that waits on a pipe from this process. When the pipe closes unasked, because the
    /// test process was killed or because a broker in a static is never dropped, it ends the
    /// broker and removes the directory.
    fn watch(&self, broker: u32) -> Child {
        let script = r#"cat >/dev/null; kill -9 "$0"; [ -n "$2" ] || rm -rf "$1""#;
        Command::new("sh")
            .args(["-c", script, &broker.to_string()])
            .arg(&self.directory)
            .arg(if self.keep { "keep" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell")
    }

    fn dismiss_watchdog(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.kill());
            drop(watchdog.wait());
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        self.dismiss_watchdog();
        self.kill9();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("the broker's last log lines:\n{}", tail.join("\n"));
        }
        if self.keep {
            eprintln!("kept {}", self.directory.display());
        } else {
            drop(fs::remove_dir_all(&self.directory));
        }
    }
}

/// The address that tests share which need no broker of their own: the broker named by
/// `LEVERET_TEST_ADDR`, so that expectations can be held against RabbitMQ, or one of ours.
pub(crate) fn shared() -> SocketAddr {
    static SHARED: OnceLock<(SocketAddr, Option<BrokerProcess>)> = OnceLock::new();
    SHARED
        .get_or_init(|| match foreign("LEVERET_TEST_ADDR") {
            Some(address) => (address, None),
            None => {
                let broker = BrokerProcess::start();
                (broker.address(), Some(broker))
            }
        })
        .0
}

/// Do the tests run against another broker than ours?
pub(crate) fn is_foreign() -> bool {
    foreign("LEVERET_TEST_ADDR").is_some()
}

/// The address of another broker in an environment variable.
pub(crate) fn foreign(variable: &str) -> Option<SocketAddr> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|error| panic!("{variable}: {error}")),
    )
}

/// A port that nothing listens on, below the range from which outgoing connections take theirs:
/// there another client could take it while the broker is down.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 5000).expect("less than 5000");
    for _ in 0..5000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 24_000 + (start + step) % 5000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between 24000 and 29000");
}
