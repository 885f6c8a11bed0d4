//! Gossip that waits to be sent, and messages as they go over the wire: the number of the sender on a line, and a line of
//! JSON for each piece of gossip.

use std::collections::VecDeque;

use crate::store::gossip::{Gossip, MOST_GOSSIP_BYTES};
use crate::store::replica::Replica;

/// Gossip that waits to be sent. Where the database is away, the oldest gossip makes room for new.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn add(&mut self, gossip: &Gossip) {
        let Some(line) = serde_json::to_string(gossip).ok().filter(|line| line.len() <= MOST_GOSSIP_BYTES)
        else {
            return;
        };
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > MOST_BYTES {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |oldest| oldest.len());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes all, as messages that are as few as may be; one without gossip where there is none.
    pub(super) fn take(&mut self, replica: Replica) -> Vec<String> {
        let head = replica.to_string();
        let mut messages = vec![head.clone()];
        for line in std::mem::take(self).lines {
            let last = messages.last().map_or(0, String::len);
            if last > head.len() && last + line.len() > MOST_GOSSIP_BYTES {
                messages.push(head.clone());
            }
            if let Some(message) = messages.last_mut() {
                message.push('\n');
                message.push_str(&line);
            }
        }
        messages
    }
}

/// Reads a message; `None` if its sender can't be told. A piece that this version does not know is left out.
pub(super) fn read(message: &str) -> Option<(Replica, Vec<Gossip>)> {
    let mut lines = message.lines();
    let from = lines.next()?.parse().ok()?;
    Some((from, lines.filter_map(|line| serde_json::from_str(line).ok()).collect()))
}

const MOST_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(tasks: usize) -> Gossip {
        let tasks = (0..tasks).map(|number| format!("task-{number:031}").into()).collect();
        Gossip::Wanted { account: "main".into(), held: Vec::new(), polled: tasks }
    }

    #[test]
    fn messages_are_full_and_not_longer_than_the_database_takes() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.take(7), ["7"]);
        (0..30).for_each(|_| outbox.add(&wanted(90)));
        outbox.add(&wanted(1_000));
        (0..100).for_each(|_| outbox.add(&wanted(1)));
        let messages = outbox.take(7);
        assert!(messages.len() < 20, "{}", messages.len());
        assert!(messages.iter().all(|message| message.len() < 8_000));
        let read: Vec<_> = messages.iter().filter_map(|message| read(message)).collect();
        assert!(read.iter().all(|(from, _)| *from == 7));
        let heard: Vec<Gossip> = read.into_iter().flat_map(|(_, gossip)| gossip).collect();
        assert_eq!(heard.len(), 130, "all but the one that is too long");
        assert_eq!((&heard[0], &heard[129]), (&wanted(90), &wanted(1)));
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_oldest_gossip_makes_room() {
        let mut outbox = Outbox::default();
        outbox.add(&wanted(2));
        (0..10_000).for_each(|_| outbox.add(&wanted(1)));
        let bytes: usize = outbox.take(1).iter().map(String::len).sum();
        assert!((MOST_BYTES - 8_000..MOST_BYTES + 8_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn gossip_of_a_newer_version_is_left_out() {
        let message =
            "3\n{\"Weather\":{\"is\":\"fine\"}}\n{\"Wanted\":{\"account\":\"a\",\"polled\":[\"t\"]}}";
        let wanted = Gossip::Wanted { account: "a".into(), held: Vec::new(), polled: vec!["t".into()] };
        assert_eq!(read(message), Some((3, vec![wanted])));
        assert_eq!(read("hello"), None);
    }
}
