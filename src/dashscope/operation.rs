//! What a call does, told from its method and path.

/// The groups of operations that a tenant's `allow` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Generate,
    Tasks,
    Uploads,
    Compatible,
    Realtime,
}

impl Group {
    pub const ALL: [Group; 5] =
        [Group::Generate, Group::Tasks, Group::Uploads, Group::Compatible, Group::Realtime];

    /// The name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generate => "generate",
            Group::Tasks => "tasks",
            Group::Uploads => "uploads",
            Group::Compatible => "compatible",
            Group::Realtime => "realtime",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of [`Group`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups(u8);

impl Groups {
    pub const ALL: Groups = Groups(0b1_1111);

    pub fn contains(self, group: Group) -> bool {
        self.0 & group.bit() != 0
    }
}

impl FromIterator<Group> for Groups {
    fn from_iter<I: IntoIterator<Item = Group>>(groups: I) -> Self {
        Groups(groups.into_iter().fold(0, |bits, group| bits | group.bit()))
    }
}
