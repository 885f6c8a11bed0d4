//! Lines and file descriptors over a Unix socket.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

pub(super) fn send_line(mut stream: &UnixStream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\n").as_bytes())
}

/// Reads byte by byte: reading ahead would lose the descriptors that come with the bytes after the line.
pub(super) fn receive_line(mut stream: &UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into());
        }
        line.push(byte[0]);
        if line.len() > MOST_LINE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

pub(super) fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for some in descriptors.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(some));
        sendmsg(stream, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

pub(super) fn receive_descriptors(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::with_capacity(count);
    while descriptors.len() < count {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = descriptors.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        if descriptors.len() == before {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(descriptors)
}

/// Descriptors in one message. The kernel takes 253 at most.
const AT_ONCE: usize = 64;
const SPACE: usize = rustix::cmsg_space!(ScmRights(AT_ONCE));
const MOST_LINE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn lines_and_many_descriptors_arrive_in_their_order() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let files: Vec<File> = (0..AT_ONCE * 2 + 3).map(|_| tempfile::tempfile().expect("a file")).collect();
        for (number, mut file) in files.iter().enumerate() {
            file.write_all(number.to_string().as_bytes()).expect("written");
        }
        let sent: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        send_line(&one, "first").expect("sent");
        send_descriptors(&one, &sent).expect("sent");
        send_line(&one, "last").expect("sent");
        assert_eq!(receive_line(&other).expect("a line"), "first");
        let received = receive_descriptors(&other, files.len()).expect("descriptors");
        assert_eq!(receive_line(&other).expect("a line"), "last");
        for (number, descriptor) in received.into_iter().enumerate() {
            let mut file = File::from(descriptor);
            io::Seek::rewind(&mut file).expect("rewound");
            assert_eq!(io::read_to_string(file).expect("text"), number.to_string());
        }
    }
}
