//! Who has a file open for writing, as far as `/proc` shows it: processes of the same user, or all for root. And how
//! they ended.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::pidfd;

/// PF_EXITING of the kernel's `include/linux/sched.h`: the process is on its way out.
const EXITING: u64 = 0x4;
/// The part of a wait status that is the number of the signal that killed.
const SIGNAL: i32 = 0x7f;

/// The device and inode numbers of a file.
pub type Inode = (u64, u64);

/// A process that can write to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its id.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
}

/// The processes that have the file open for writing. What may not be looked into is left out; a mapping that outlives
/// its descriptor is not seen.
pub fn writers(file: Inode) -> Vec<Writer> {
    let found = find(&HashSet::from([file])).into_iter();
    found
        .map(|(_, pid)| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Writer { pid, name: name.trim_end().to_owned() }
        })
        .collect()
}

/// As [`writers`], of several files in one walk over all processes.
pub fn find(files: &HashSet<Inode>) -> Vec<(Inode, u32)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.flat_map(|pid| written_by(pid, files).into_iter().map(move |file| (file, pid))).collect()
}

fn written_by(pid: u32, files: &HashSet<Inode>) -> HashSet<Inode> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let written = descriptors.filter_map(|entry| {
        let about = fs::metadata(entry.path()).ok()?;
        let file = (about.dev(), about.ino());
        let info = || Path::new("/proc").join(pid.to_string()).join("fdinfo").join(entry.file_name());
        (files.contains(&file) && is_for_writing(&info())).then_some(file)
    });
    written.collect()
}

/// The flags stand in octal; the last two bits say how it was opened.
fn is_for_writing(fdinfo: &Path) -> bool {
    let text = fs::read_to_string(fdinfo).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 0b11 != 0)
}

/// A process that is remembered, so that it can be asked how it ended when it is gone.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    started: u64,
    pidfd: OwnedFd,
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It lives.
    None,
    /// It ended by itself.
    Exited,
    /// A signal ended it.
    Killed,
    /// It is gone, and the kernel does not say how (Linux before 6.15).
    Unknown,
}

impl Process {
    /// Remembers a process; `None` if it is gone.
    pub fn open(pid: u32) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, started: Stat::read(pid)?.started, pidfd })
    }

    /// Whether it lives; its number is its own then.
    pub fn is_alive(&self) -> bool {
        self.end() == End::None
    }

    /// What became of it. Of one that is on its way out this is already known while its files are being closed.
    pub fn end(&self) -> End {
        let gone = || pidfd::wait_status(self.pidfd.as_fd());
        if let Some(status) = gone() {
            return end_of(status);
        }
        match Stat::read(self.pid).filter(|stat| stat.started == self.started) {
            Some(Stat { ending: true, status, .. }) => end_of(status),
            Some(_) => End::None,
            // It went between the two questions.
            None => gone().map_or(End::Unknown, end_of),
        }
    }
}

fn end_of(status: i32) -> End {
    if status & SIGNAL == 0 { End::Exited } else { End::Killed }
}

/// Of what `/proc` says of a process, proc_pid_stat(5).
struct Stat {
    ending: bool,
    /// In clock ticks since the system was started.
    started: u64,
    status: i32,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&text)
    }

    /// The name of the program, in brackets, is the second field and may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let flags: u64 = field(9)?.parse().ok()?;
        Some(Self {
            ending: matches!(field(3)?, "Z" | "X") || flags & EXITING != 0,
            started: field(22)?.parse().ok()?,
            status: field(52)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_writes_is_found_and_who_reads_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let about = file.as_file().metadata().unwrap();
        let found = || writers((about.dev(), about.ino())).into_iter().map(|writer| writer.pid).collect::<Vec<_>>();
        assert_eq!(found(), [std::process::id()]);
        let reader = fs::File::open(file.path()).unwrap();
        let path = file.into_temp_path();
        assert_eq!(found(), [0_u32; 0]);
        drop((reader, path));
    }

    #[test]
    fn how_a_process_ended_is_known_before_and_after_its_parent_knows() {
        for (script, kill, expected) in [
            ("read end", true, End::Killed),
            ("read end; exit 3", false, End::Exited),
            ("kill -TERM $$", false, End::Killed),
        ] {
            let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
            let process = Process::open(child.id()).unwrap();
            if kill {
                assert_eq!(process.end(), End::None);
                child.kill().unwrap();
            }
            drop(child.stdin.take());
            let ended = || Some(process.end()).filter(|end| *end != End::None);
            let end = std::iter::repeat_with(ended).find_map(|end| end).unwrap();
            assert_eq!(end, expected, "{script}, not waited for");
            child.wait().unwrap();
            // Before Linux 6.15 nobody knows then.
            assert!([expected, End::Unknown].contains(&process.end()), "{script}, waited for: {:?}", process.end());
        }
    }

    #[test]
    fn the_name_of_a_program_hides_nothing() {
        let text = format!("7 (a) Z (b) 1 ) Z 1 1 1 0 -1 4228108 {} 4711 {} 9", "0 ".repeat(12), "0 ".repeat(29));
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.ending, stat.started, stat.status), (true, 4711, 9));
    }
}
