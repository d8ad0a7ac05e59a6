//! How did a process end? A small room where `unsafe` is lifted: no safe crate asks PIDFD_GET_INFO.

use std::os::fd::{AsRawFd, BorrowedFd};

/// The wait status of a process that has ended and that its parent has taken note of. `None` while it has not, and on
/// Linux before 6.15.
#[expect(unsafe_code, reason = "ioctl(2) with PIDFD_GET_INFO is in no safe crate")]
pub(super) fn wait_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    // SAFETY: a struct of integers only, for which all bits zero is a value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = libc::PIDFD_INFO_EXIT.into();
    // SAFETY: `pidfd` is open as long as it is borrowed; the kernel writes at most the size of the struct, which is in
    // the number of the request.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    (answer == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0).then_some(info.exit_code)
}
