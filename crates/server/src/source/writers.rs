//! Who has a file open for writing, as far as `/proc` shows it: processes of the same user, or all for root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
pub fn writers(dev: u64, inode: u64) -> Vec<Writer> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| writes(*pid, dev, inode))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Writer { pid, name: name.trim_end().to_owned() }
        })
        .collect()
}

fn writes(pid: u32, dev: u64, inode: u64) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|entry| {
        let is_it = fs::metadata(entry.path()).is_ok_and(|file| (file.dev(), file.ino()) == (dev, inode));
        is_it && is_for_writing(&Path::new("/proc").join(pid.to_string()).join("fdinfo").join(entry.file_name()))
    })
}

/// The flags stand in octal; the last two bits say how it was opened.
fn is_for_writing(fdinfo: &Path) -> bool {
    let text = fs::read_to_string(fdinfo).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 0b11 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_is_found_and_who_reads_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let about = file.as_file().metadata().unwrap();
        let found = || writers(about.dev(), about.ino()).into_iter().map(|writer| writer.pid).collect::<Vec<_>>();
        assert_eq!(found(), [std::process::id()]);
        let reader = fs::File::open(file.path()).unwrap();
        let path = file.into_temp_path();
        assert_eq!(found(), [0_u32; 0]);
        drop((reader, path));
    }
}
