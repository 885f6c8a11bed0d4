//! The files that a configuration was read from, and their states, which tell whether a file has changed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Files that were read: the configuration first, then the files that it names.
#[derive(Debug, Clone, Default)]
pub struct Files(Vec<SourceFile>);

#[derive(Debug, Clone)]
struct SourceFile {
    path: PathBuf,
    /// State of the opened file, from before it was read.
    look: Option<FileState>,
    /// `None` if the file could not be read.
    sha256: Option<[u8; 32]>,
}

/// Metadata of a regular file. Another file at the same path has another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// States of all files; `None` for a path without a regular file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileStates(Vec<Option<FileState>>);

impl Files {
    /// The path of the configuration; `None` if there is no file.
    pub fn path(&self) -> Option<&Path> {
        Some(&self.0.first()?.path)
    }

    /// States at the time of reading.
    pub fn when_read(&self) -> FileStates {
        FileStates(self.0.iter().map(|source| source.look).collect())
    }

    /// Current states.
    pub fn now(&self) -> FileStates {
        let look =
            |source: &SourceFile| fs::metadata(&source.path).ok().and_then(|found| FileState::of(&found));
        FileStates(self.0.iter().map(look).collect())
    }

    /// Tells whether both are the same paths with the same bytes.
    pub fn hold_the_same(&self, others: &Files) -> bool {
        let held = |files: &Files| {
            files.0.iter().map(|source| (source.path.clone(), source.sha256)).collect::<Vec<_>>()
        };
        held(self) == held(others)
    }

    /// A number below 2^53 made of the bytes of all files, whatever their paths. Files with the same bytes have the same.
    pub fn hash(&self) -> u64 {
        let mut digest = Sha256::new();
        for source in &self.0 {
            digest.update(source.sha256.unwrap_or_default());
        }
        let digest: [u8; 32] = digest.finalize().into();
        // A metric holds whole numbers exactly up to there.
        digest[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte)) >> 11
    }

    /// Reads a file, and notes its state and digest.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let opened = File::open(path);
        let found = match &opened {
            Ok(file) => file.metadata(),
            Err(_) => fs::metadata(path),
        };
        let look = found.ok().and_then(|found| FileState::of(&found));
        let bytes = opened.and_then(|file| whole(file, limit));
        let sha256 = bytes.as_ref().ok().map(|bytes| Sha256::digest(bytes).into());
        self.0.push(SourceFile { path: path.to_owned(), look, sha256 });
        bytes
    }
}

fn whole(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

impl FileState {
    fn of(found: &Metadata) -> Option<Self> {
        found.is_file().then(|| Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_a_rewritten_and_a_removed_file_are_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, "one").expect("written");
        fs::write(&other, "one").expect("written");
        let mut files = Files::default();
        assert_eq!(files.read(&path, 10).expect("read"), b"one");
        assert_eq!((files.now(), files.path()), (files.when_read(), Some(&*path)));
        fs::write(&path, "more").expect("written");
        assert_ne!(files.now(), files.when_read());
        let mut again = Files::default();
        again.read(&path, 10).expect("read");
        assert!(!again.hold_the_same(&files));
        assert_ne!(again.hash(), files.hash());
        // Another file with the same bytes has another state and the same content.
        fs::rename(&other, &path).expect("renamed");
        let mut swapped = Files::default();
        swapped.read(&path, 10).expect("read");
        assert_ne!(swapped.when_read(), files.when_read());
        assert!(swapped.hold_the_same(&files));
        assert_eq!(swapped.hash(), files.hash());
        fs::remove_file(&path).expect("removed");
        assert_ne!(swapped.now(), swapped.when_read());
    }

    #[test]
    fn what_could_not_be_read_is_watched_for_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let mut files = Files::default();
        assert!(files.read(&path, 10).is_err());
        assert_eq!(files.now(), files.when_read());
        fs::write(&path, "twelve bytes").expect("written");
        assert_ne!(files.now(), files.when_read());
        assert_eq!(files.read(&path, 10).map_err(|error| error.kind()), Err(io::ErrorKind::FileTooLarge));
    }
}
