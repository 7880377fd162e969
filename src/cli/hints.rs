//! Hints about a data set and about a run in progress, in words.

use super::recordings::name_list;
use crate::base::Name;
use crate::data::{FEW_CLIPS, FEW_SPEAKERS, FEW_VALIDATION_CLIPS, Hint};

/// A hint about a data set, of sound or of arrays, as a remark of one line.
pub fn note(hint: &Hint, sound: bool) -> String {
    match hint {
        Hint::FewClips { classes } => format!(
            "note: fewer than {FEW_CLIPS} training clips of {}: such classes are learned badly; add recordings",
            with_numbers(classes)
        ),
        Hint::FewSpeakers { classes } if !sound => format!(
            "note: fewer than {FEW_SPEAKERS} groups in the training clips of {}: clips of other groups will be recognised less well",
            with_numbers(classes)
        ),
        Hint::FewSpeakers { classes } => format!(
            "note: fewer than {FEW_SPEAKERS} speakers in the training clips of {}: other voices will be recognised badly; add \
             recordings of other people",
            with_numbers(classes)
        ),
        Hint::UnknownSpeakers if !sound => {
            "note: there is no array `group`, so every clip counts as a group of its own; if several clips are of one \
                                            person or one session, the measured accuracy is too high for new ones"
                .into()
        }
        Hint::UnknownSpeakers => "note: no file name is SPEAKER_nohash_NUMBER, so speakers cannot be told apart; one \
                                  speaker can be in several splits, and the measured accuracy too high for new voices"
            .into(),
        Hint::SmallValidation { clips } => format!(
            "note: fewer than {FEW_VALIDATION_CLIPS} validation clips ({clips}): which epoch is the best is largely chance"
        ),
    }
}

/// The classes with their numbers: `bed (4), cat (6)`.
fn with_numbers(classes: &[(Name, usize)]) -> String {
    let names: Vec<String> = classes.iter().map(|(class, number)| format!("{class} ({number})")).collect();
    name_list(&names)
}

/// The remark that the loss is still that of guessing after `epoch` epochs.
pub fn at_chance(epoch: u64) -> String {
    format!(
        "note: after {epoch} epochs the loss is still that of guessing; if it stays there, try a lower --lr or --variant do+bn, \
         and check with `stapes data` that the folders hold the words they are named after"
    )
}
