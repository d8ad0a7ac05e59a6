//! Looking at a running root from outside, and asking it for a scan.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use filebell_core::path::FilePath;
use filebell_core::root::RootIdentity;

use super::dirty::Hint;
use super::lease::{self, Lease};
use super::root::{Look, blind_file_system};
use super::status::RootStatus;
use super::{Folder, RootError, Shared};

/// A handle on a running root that does not keep it running. Cheap to clone.
#[derive(Clone)]
pub struct View(Arc<Shared>);

/// A path that waits to be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How often in a row somebody was found writing, or it changed while it was read.
    pub busy: u32,
    /// How often in a row it could not be looked at.
    pub failures: u32,
    /// Nothing proves the end of its writing but its standing still.
    pub standing: bool,
    /// Its writer was killed, and nobody has gone on with it.
    pub orphaned: bool,
}

/// What lies at a path now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    /// A file, on this device, with this inode number.
    File {
        /// The device number.
        dev: u64,
        /// The inode number.
        inode: u64,
    },
    /// Nothing, or nothing that is told: a directory, a link, a device.
    Nothing,
    /// It cannot be looked at.
    Unknown,
}

impl Folder {
    /// A handle for looking on.
    pub fn view(&self) -> View {
        View(Arc::clone(&self.shared))
    }
}

impl View {
    /// What the root says of itself.
    pub fn status(&self) -> RootStatus {
        self.0.status.report(self.0.dirty.len())
    }

    /// See [`Folder::request_scan`].
    pub fn request_scan(&self) {
        self.0.watch.rescan();
    }

    /// Which directory is worked with now.
    pub fn root_identity(&self) -> RootIdentity {
        self.0.root.identity()
    }

    /// From now on this directory is the known root: what is missing in it was deleted. A scan that looks for it is to be
    /// asked for.
    pub fn accept_root(&self, identity: RootIdentity) {
        self.0.root.accept(identity);
        self.0.look_at_root();
    }

    /// See [`Folder::settled`].
    pub async fn settled(&self) {
        self.0.settled().await;
    }

    /// Has a path decided as one whose writing was seen; `false` if there is no room for it now.
    pub fn announce(&self, path: FilePath) -> bool {
        self.0.dirty.mark(path.clone(), Hint::Modified) && self.0.dirty.mark(path, Hint::Closed)
    }

    /// The pattern by which a path is left out.
    pub fn ignored(&self, path: &FilePath) -> Option<String> {
        self.0.config.ignore.rule(path)
    }

    /// Whether a path waits to be decided, and for what.
    pub fn waiting(&self, path: &FilePath) -> Option<Waiting> {
        self.0.dirty.waiting(path)
    }

    /// What lies at a path now.
    pub fn lies(&self, path: &FilePath) -> Lies {
        match self.0.root.open().map(|root| root.look(path)) {
            Ok(Ok(Look::File(print))) => Lies::File { dev: print.dev, inode: print.inode },
            Ok(Ok(Look::NoFile)) => Lies::Nothing,
            Ok(Err(_)) | Err(_) => Lies::Unknown,
        }
    }
}

/// What can be known of a directory before it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examined {
    /// The file system, if changes made elsewhere raise no event on it.
    pub blind: Option<&'static str>,
    /// Whether a lease on a file of our own tells that it is being written; `None` if we may not make one there.
    pub leases: Option<bool>,
}

/// Looks at a directory as a root: whether it can be read, and what can be proved there. Makes and removes one file
/// whose name is never told.
pub fn examine(root: &Path) -> Result<Examined, RootError> {
    let refused = |error: std::io::Error| RootError::of(root, error);
    std::fs::read_dir(root).map_err(refused)?;
    let directory = std::fs::File::open(root).map_err(refused)?;
    let probe = tempfile::Builder::new().prefix(".filebell-examine-").tempfile_in(root);
    let leases = probe.ok().and_then(|probe| {
        let reader = std::fs::File::open(probe.path()).ok()?;
        let while_written = lease::probe(reader.as_fd());
        let path = probe.into_temp_path();
        let after = lease::probe(reader.as_fd());
        drop(path);
        Some((while_written, after) == (Lease::Busy, Lease::Granted))
    });
    Ok(Examined { blind: blind_file_system(directory.as_fd()), leases })
}
