//! A progress line for long downloads, where a person looks.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Shorter downloads need no progress.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const SHOWN_EVERY: Duration = Duration::from_millis(200);
const WIDTH: u64 = 30;

/// The line of one download; wiped when that ends.
pub(super) struct Progress {
    name: String,
    began: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new(name: &str) -> Self {
        let name = name.escape_debug().to_string();
        Self { name, began: Instant::now(), shown: None, is_terminal: io::stderr().is_terminal() }
    }

    pub(super) fn at(&mut self, done: u64, total: Option<u64>) {
        let is_due = self.shown.map_or(self.began.elapsed() >= SHOWN_AFTER, |at| at.elapsed() >= SHOWN_EVERY);
        if self.is_terminal && is_due {
            self.shown = Some(Instant::now());
            let _ = write!(io::stderr().lock(), "\r\x1b[K{} {}", bar(done, total), self.name);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn bar(done: u64, total: Option<u64>) -> String {
    let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes >> 10) & 1023) * 10 / 1024);
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let filled = usize::try_from(done.min(total).saturating_mul(WIDTH) / total).unwrap_or(0);
            let (full, width) = ("#".repeat(filled), usize::try_from(WIDTH).unwrap_or(0));
            format!("[{full:<width$}] {} of {}", mib(done), mib(total))
        }
        None => mib(done),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bar_fills() {
        assert_eq!(super::bar(3 << 19, Some(3 << 20)), "[###############               ] 1.5 MiB of 3.0 MiB");
        assert_eq!(super::bar(1 << 20, None), "1.0 MiB");
        assert!(super::bar(9, Some(3)).contains(&"#".repeat(30)));
    }
}
