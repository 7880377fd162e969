//! Rules that describe the convolutions of a network by a family, a width and a depth.

use super::error::{Reason, SpecError};
use super::spec::{Block, NetworkSpec};
use crate::ops::Padding;
use serde::{Deserialize, Serialize};

/// Convolutions by a rule of the study. An omitted value is that of the family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The family.
    pub rule: Family,
    /// Channels of the first convolution.
    pub start: usize,
    /// The number of convolutions.
    pub depth: usize,
    /// Taps of each convolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<usize>,
    /// Rows of a max-pooling window; 1 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<usize>,
    /// Whether the last window may extend beyond the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ceil: Option<bool>,
    /// Whether the first convolution (in `vgg`: the first two) is followed by a pool. Without that pool and with one after
    /// the last a network has the same parameters and about three times the arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_after_first: Option<bool>,
    /// Whether the last convolution is followed by a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_after_last: Option<bool>,
}

impl Rule {
    /// The family's own rule for `depth` convolutions that start with `start` channels.
    pub fn new(rule: Family, start: usize, depth: usize) -> Rule {
        Rule {
            rule,
            start,
            depth,
            kernel: None,
            pool: None,
            pool_ceil: None,
            pool_after_first: None,
            pool_after_last: None,
        }
    }
}

/// The study's families, by how the channels go from convolution to convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Doubles after every fourth; kernel 5, pool 3.
    Custom,
    /// Doubles after every third; kernel 5, pool 3.
    Steep,
    /// Halves after every fourth; kernel 5, pool 3.
    Shrink,
    /// Halves after every third; kernel 5, pool 3.
    SteepShrink,
    /// Doubles after every eighth; kernel 3, a pool of 3 after every second.
    Vgg,
    /// Doubles after each; kernel 25 without padding, a pool of 4 rounded up after each, the last too.
    Baseline,
}

/// What a family determines.
struct Recipe {
    /// Convolutions of one width.
    every: usize,
    halves: bool,
    kernel: usize,
    padding: Padding,
    pool: usize,
    pool_ceil: bool,
    /// Convolutions before each pool.
    pool_every: usize,
    pool_after_last: bool,
}

impl Family {
    fn recipe(self) -> Recipe {
        let custom = Recipe {
            every: 4,
            halves: false,
            kernel: 5,
            padding: Padding::Same,
            pool: 3,
            pool_ceil: false,
            pool_every: 1,
            pool_after_last: false,
        };
        match self {
            Family::Custom => custom,
            Family::Steep => Recipe { every: 3, ..custom },
            Family::Shrink => Recipe { halves: true, ..custom },
            Family::SteepShrink => Recipe { every: 3, halves: true, ..custom },
            Family::Vgg => Recipe { every: 8, kernel: 3, pool_every: 2, ..custom },
            Family::Baseline => Recipe {
                every: 1,
                kernel: 25,
                padding: Padding::Valid,
                pool: 4,
                pool_ceil: true,
                pool_after_last: true,
                ..custom
            },
        }
    }
}

/// Most blocks of a network, and most dense layers.
pub(super) const MOST_LAYERS: usize = 1000;

impl NetworkSpec {
    /// Its blocks one by one, whether written or by a rule.
    pub fn expand(&self) -> Result<Vec<Block>, SpecError> {
        match (&self.blocks, self.block.is_empty()) {
            (Some(rule), true) => rule.blocks().map_err(|(key, what)| self.impossible(key, what)),
            (None, false) if self.block.len() > MOST_LAYERS => {
                self.refuse("block", format!("the network has {} blocks; take at most {MOST_LAYERS}", self.block.len()))
            }
            (None, false) => Ok(self.block.clone()),
            (Some(_), false) => {
                self.refuse("block", "`blocks` and `[[block]]` both describe the convolutions; keep one of them")
            }
            (None, true) => self.refuse(
                "",
                "the network has no convolutions; add `blocks = { rule = .. }` or one `[[block]]` for each convolution",
            ),
        }
    }

    /// An error about this network and one of its keys.
    pub(super) fn impossible(&self, key: &str, what: impl Into<String>) -> SpecError {
        Reason::Impossible(what.into()).at(format!("network `{}`", self.name), key)
    }

    /// [`NetworkSpec::refused`] as a result.
    pub(super) fn refuse<T>(&self, key: &str, what: impl Into<String>) -> Result<T, SpecError> {
        Err(self.impossible(key, what))
    }
}

impl Rule {
    /// The blocks, or the key at fault and why.
    fn blocks(&self) -> Result<Vec<Block>, (&'static str, String)> {
        let recipe = self.rule.recipe();
        if self.depth == 0 || self.depth > MOST_LAYERS {
            let why = format!("`depth` is {}; take between 1 and {MOST_LAYERS} convolutions", self.depth);
            return Err(("blocks.depth", why));
        }
        let pool = self.pool.unwrap_or(recipe.pool);
        let pool_after_first = self.pool_after_first.unwrap_or(true);
        let pool_after_last = self.pool_after_last.unwrap_or(recipe.pool_after_last);
        let last = (self.depth - 1) / recipe.pool_every;
        let mut blocks = Vec::with_capacity(self.depth);
        for i in 0..self.depth {
            let group = i / recipe.pool_every;
            let ends_group = i + 1 == self.depth || (i + 1) % recipe.pool_every == 0;
            let pooled = ends_group && (group > 0 || pool_after_first) && (group < last || pool_after_last);
            blocks.push(Block {
                padding: recipe.padding,
                pool: (pooled && pool != 1).then_some(pool),
                pool_ceil: self.pool_ceil.unwrap_or(recipe.pool_ceil),
                ..Block::new(self.channels(&recipe, i)?, self.kernel.unwrap_or(recipe.kernel))
            });
        }
        Ok(blocks)
    }

    /// Channels of convolution `i`, counted from 0.
    fn channels(&self, recipe: &Recipe, i: usize) -> Result<usize, (&'static str, String)> {
        let times = u32::try_from(i / recipe.every).expect("the depth is bounded");
        let factor = 2usize.checked_pow(times);
        let channels = match (factor, recipe.halves) {
            (Some(factor), true) => self.start / factor,
            (Some(factor), false) => self.start.saturating_mul(factor),
            (None, true) => 0,
            (None, false) => usize::MAX,
        };
        match channels {
            0 => Err((
                "blocks.start",
                format!(
                    "conv{} would have no channels with `start = {}`; take more channels or fewer convolutions",
                    i + 1,
                    self.start
                ),
            )),
            usize::MAX => {
                Err(("blocks.depth", format!("conv{} would have too many channels; take fewer convolutions", i + 1)))
            }
            channels => Ok(channels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(family: Family, start: usize, depth: usize) -> Vec<usize> {
        Rule::new(family, start, depth).blocks().unwrap().iter().map(|b| b.conv).collect()
    }

    fn pools(rule: &Rule) -> Vec<bool> {
        rule.blocks().unwrap().iter().map(|b| b.pool.is_some()).collect()
    }

    #[test]
    fn families_widen_and_narrow_as_in_the_study() {
        assert_eq!(channels(Family::Custom, 8, 9), [8, 8, 8, 8, 16, 16, 16, 16, 32]);
        assert_eq!(channels(Family::Steep, 8, 7), [8, 8, 8, 16, 16, 16, 32]);
        assert_eq!(channels(Family::Shrink, 8, 9), [8, 8, 8, 8, 4, 4, 4, 4, 2]);
        assert_eq!(channels(Family::SteepShrink, 8, 7), [8, 8, 8, 4, 4, 4, 2]);
        assert_eq!(channels(Family::Baseline, 8, 5), [8, 16, 32, 64, 128]);
    }

    #[test]
    fn pools_stand_where_the_keys_say() {
        let rule = Rule::new(Family::Custom, 8, 4);
        assert_eq!(pools(&rule), [true, true, true, false]);
        let moved = Rule { pool_after_first: Some(false), pool_after_last: Some(true), ..rule.clone() };
        assert_eq!(pools(&moved), [false, true, true, true]);
        assert_eq!(pools(&Rule { pool: Some(1), ..rule }), [false; 4]);
        let vgg = Rule::new(Family::Vgg, 8, 7);
        assert_eq!(pools(&vgg), [false, true, false, true, false, true, false]);
        assert_eq!(pools(&Rule { pool_after_last: Some(true), ..vgg }), [false, true, false, true, false, true, true]);
    }

    #[test]
    fn impossible_rules_are_refused() {
        let fails = |family, start, depth| Rule::new(family, start, depth).blocks().unwrap_err().0;
        assert_eq!(fails(Family::Custom, 8, 0), "blocks.depth");
        assert_eq!(fails(Family::Custom, 8, usize::MAX), "blocks.depth");
        assert_eq!(fails(Family::Custom, 0, 3), "blocks.start");
        assert_eq!(fails(Family::Shrink, 2, 9), "blocks.start");
        assert_eq!(fails(Family::Baseline, 8, 200), "blocks.depth");
    }
}
