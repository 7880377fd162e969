//! What the clips that have to stay in one split have in common, a speaker or a group, and the words for it.

/// What is never divided between splits, unless clips are divided at random: the speakers of recordings, or the groups of arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Of recordings: who speaks.
    Speakers,
    /// Of arrays: the values of the array `group`, such as persons or sessions.
    Groups,
}

impl Grouping {
    /// One of them: "speaker", "group".
    pub const fn noun(self) -> &'static str {
        match self {
            Grouping::Speakers => "speaker",
            Grouping::Groups => "group",
        }
    }

    /// Several of them: "speakers", "groups".
    pub const fn plural(self) -> &'static str {
        match self {
            Grouping::Speakers => "speakers",
            Grouping::Groups => "groups",
        }
    }

    /// Those that a network was not trained on: "new voices", "new groups".
    pub const fn others(self) -> &'static str {
        match self {
            Grouping::Speakers => "new voices",
            Grouping::Groups => "new groups",
        }
    }

    /// What a data set needs that has too few of them: "recordings of other people", "clips of other groups".
    pub const fn more(self) -> &'static str {
        match self {
            Grouping::Speakers => "recordings of other people",
            Grouping::Groups => "clips of other groups",
        }
    }

    /// Why they are not known where nothing tells them.
    pub const fn why_unknown(self) -> &'static str {
        match self {
            Grouping::Speakers => "no file name is SPEAKER_nohash_NUMBER",
            Grouping::Groups => "there is no array `group`",
        }
    }
}
