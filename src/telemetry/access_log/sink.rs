//! The target of lines: a stream of the process, or a file that another program may rename.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::LogTarget;

pub(super) struct Sink {
    target: SinkTarget,
    /// True if the last write ended inside a line.
    torn: bool,
}

enum SinkTarget {
    Nothing,
    Stream(File),
    File { path: PathBuf, open: Option<OpenFile> },
}

struct OpenFile {
    file: File,
    /// Device and inode, which tell apart two files of one name.
    identity: (u64, u64),
}

impl Sink {
    /// Opens the target.
    ///
    /// # Errors
    /// An error of opening the file.
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        let mut sink = Self::unopened(target);
        match (&mut sink.target, target) {
            (SinkTarget::File { path, open }, _) => *open = Some(OpenFile::at(path)?),
            // A process may be started without the stream.
            (SinkTarget::Nothing, LogTarget::Stdout | LogTarget::Stderr) => {
                tracing::warn!("the access log has nowhere to go: its stream is closed");
            }
            (SinkTarget::Nothing | SinkTarget::Stream(_), _) => {}
        }
        Ok(sink)
    }

    /// Makes a sink whose file is opened by the first write.
    pub(super) fn unopened(target: &LogTarget) -> Self {
        let stream = |stream: io::Result<std::os::fd::OwnedFd>| {
            stream.map_or(SinkTarget::Nothing, |stream| SinkTarget::Stream(stream.into()))
        };
        let target = match target {
            LogTarget::Off => SinkTarget::Nothing,
            LogTarget::Stdout => stream(io::stdout().as_fd().try_clone_to_owned()),
            LogTarget::Stderr => stream(io::stderr().as_fd().try_clone_to_owned()),
            LogTarget::File(path) => SinkTarget::File { path: path.clone(), open: None },
        };
        Self { target, torn: false }
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// The error, and the number of lines that were not written.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), (io::Error, u64)> {
        let none = |error| (error, count(lines));
        let mut file = match &mut self.target {
            SinkTarget::Nothing => return Ok(()),
            SinkTarget::Stream(file) => &*file,
            SinkTarget::File { path, open } => {
                if open.as_ref().is_none_or(|open| !open.is_at(path)) {
                    *open = None;
                    self.torn = false;
                    *open = Some(OpenFile::at(path).map_err(none)?);
                }
                match open {
                    Some(open) => &open.file,
                    None => return Ok(()),
                }
            }
        };
        if self.torn {
            file.write_all(b"\n").map_err(none)?;
            self.torn = false;
        }
        let mut left = lines;
        while !left.is_empty() {
            match file.write(left) {
                Ok(written) if written > 0 => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                ended => {
                    let error = ended.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                    let written = lines.len() - left.len();
                    self.torn = written > 0 && lines[written - 1] != b'\n';
                    return Err((error, count(left)));
                }
            }
        }
        Ok(())
    }
}

impl OpenFile {
    fn at(path: &Path) -> io::Result<Self> {
        // Other users of the machine may not read addresses and names of tenants.
        let opened = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
        let because = |error: io::Error| {
            io::Error::new(error.kind(), format!("can't open {}: {error}", path.display()))
        };
        let file = opened.map_err(because)?;
        let identity = identity(&file.metadata().map_err(because)?);
        Ok(Self { file, identity })
    }

    /// True while the path leads to this file.
    fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| identity(&metadata) == self.identity)
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
