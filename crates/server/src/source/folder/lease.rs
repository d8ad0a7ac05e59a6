//! Is anybody still writing? The one room where `unsafe` is lifted: no safe crate offers `F_SETLEASE`.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// `F_SETSIG` of Linux's `asm-generic/fcntl.h`; the libc crate lacks it.
const F_SETSIG: libc::c_int = 10;

/// What a read lease says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// It was granted: nobody has the file open for writing, and no writable mapping of it lives.
    Granted,
    /// Somebody can still write.
    Busy,
    /// It cannot be had here: another owner's file without CAP_LEASE, or a file system without leases.
    Unavailable,
}

/// Takes a read lease on a file opened for reading only, and gives it back at once.
///
/// Held longer it would keep the next writer waiting. A writer who comes in the microseconds between makes the kernel
/// signal us; the signal is set to SIGURG, which does nothing by default, for SIGIO would end the process.
#[expect(unsafe_code, reason = "fcntl(2) with F_SETSIG and F_SETLEASE is in no safe crate")]
pub(super) fn probe(file: BorrowedFd<'_>) -> Lease {
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open as long as `file` lives; both commands take an integer and touch no memory of ours.
    let granted = unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0 && libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0
    };
    if granted {
        // SAFETY: as above. Closing the file would give the lease back just as well, should this fail.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Lease::Granted;
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(Errno::AGAIN) => Lease::Busy,
        _ => Lease::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_lease_is_refused_while_anybody_can_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(probe(reader.as_fd()), Lease::Busy);
        drop(writer);
        let other_reader = File::open(&path).unwrap();
        assert_eq!(probe(reader.as_fd()), Lease::Granted);
        assert_eq!(probe(other_reader.as_fd()), Lease::Granted);
    }

    #[test]
    fn a_writer_in_the_middle_of_a_probe_ends_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        File::create(&path).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(File::options().write(true).open(&path).unwrap());
                }
            });
            let reader = File::open(&path).unwrap();
            for _ in 0..20_000 {
                probe(reader.as_fd());
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
