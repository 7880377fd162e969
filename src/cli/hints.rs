//! Hints about a data set and about a run in progress, in words.

use super::recordings::name_list;
use crate::base::Name;
use crate::data::{FEW_CLIPS, FEW_SPEAKERS, FEW_VALIDATION_CLIPS, Grouping, Hint};

/// A hint about a data set of recordings or of arrays as a remark of one line.
pub fn note(hint: &Hint, grouping: Grouping) -> String {
    let (plural, unknown) = (grouping.plural(), grouping.why_unknown());
    match hint {
        Hint::FewClips { classes } => format!(
            "note: fewer than {FEW_CLIPS} training clips of {}: such classes are learned badly; add recordings",
            with_numbers(classes)
        ),
        Hint::FewSpeakers { classes } => {
            let classes = with_numbers(classes);
            let so = match grouping {
                Grouping::Speakers => format!("other voices will be recognised badly; add {}", grouping.more()),
                Grouping::Groups => format!("clips of other {plural} will be recognised less well"),
            };
            format!("note: fewer than {FEW_SPEAKERS} {plural} in the training clips of {classes}: {so}")
        }
        Hint::UnknownSpeakers => {
            let so = match grouping {
                Grouping::Speakers => {
                    "speakers cannot be told apart; one speaker can be in several splits, and the measured accuracy too high \
                     for new voices"
                }
                Grouping::Groups => {
                    "every clip counts as a group of its own; if several clips are of one person or one session, the \
                     measured accuracy is too high for new ones"
                }
            };
            format!("note: {unknown}, so {so}")
        }
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
