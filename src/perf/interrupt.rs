//! Ctrl-C ends the load early, not the program: there is still a summary, and a topology to delete.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Knows whether the user wants an end. A second Ctrl-C ends the process at once.
pub(super) struct Interrupt {
    wanted: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on.
    pub(super) fn listen() -> io::Result<Self> {
        let wanted = Arc::new(AtomicBool::new(false));
        let seen = wanted.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let listen = move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if seen.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                }
            });
        };
        // The thread sleeps until the process ends; nobody waits for it.
        thread::Builder::new()
            .name("perf-interrupt".into())
            .spawn(listen)?;
        Ok(Self { wanted })
    }

    pub(super) fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}
