//! Lengths of strided operands in checked arithmetic.
//!
//! A kernel reads and writes through pointers and asserts once, at its entry, that its slices are long enough. A length that wraps
//! around would pass such an assertion, so every product and sum that guards a pointer is computed here: a result beyond `usize`
//! is a panic.

/// How many numbers an operand spans that has `inner` contiguous numbers at every combination of positions, where an axis
/// `(count, stride)` has `count` positions that are `stride` numbers apart. Panics if an axis has no position.
#[inline(always)]
#[track_caller]
pub(super) fn span<const N: usize>(axes: [(usize, usize); N], inner: usize) -> usize {
    axes.into_iter().fold(inner, |len, (count, stride)| {
        let last = count.checked_sub(1).and_then(|steps| steps.checked_mul(stride));
        checked(last.and_then(|last| last.checked_add(len)))
    })
}

/// The product of lengths.
#[inline(always)]
#[track_caller]
pub(crate) fn product<const N: usize>(factors: [usize; N]) -> usize {
    factors.into_iter().fold(1, |product, factor| checked(product.checked_mul(factor)))
}

/// The sum of lengths.
#[inline(always)]
#[track_caller]
pub(crate) fn sum<const N: usize>(terms: [usize; N]) -> usize {
    terms.into_iter().fold(0, |sum, term| checked(sum.checked_add(term)))
}

/// The smallest multiple of `unit` that is not below `len`.
#[inline(always)]
#[track_caller]
pub(crate) fn round_up_to(len: usize, unit: usize) -> usize {
    checked(len.checked_next_multiple_of(unit))
}

#[inline(always)]
#[track_caller]
fn checked(len: Option<usize>) -> usize {
    match len {
        Some(len) => len,
        None => beyond_memory(),
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn beyond_memory() -> ! {
    panic!("an operand's counts and strides describe no memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_last_number() {
        assert_eq!(span([], 7), 7);
        assert_eq!(span([(1, usize::MAX)], 7), 7);
        assert_eq!(span([(3, 10), (2, 100)], 7), 127);
        assert_eq!((product([3, 4, 5]), sum([3, 4, 5]), round_up_to(17, 8)), (60, 12, 24));
    }

    #[test]
    fn what_wraps_around_panics() {
        let half = 1usize << (usize::BITS - 1);
        let wrapping: [fn(usize) -> usize; 6] = [
            |half| span([(3, half)], 0),
            |half| span([(2, half), (2, half)], 0),
            |_| span([(2, usize::MAX)], 1),
            |_| span([(0, 1)], 1),
            |half| product([half, 2]),
            |half| sum([half, half]),
        ];
        for (number, compute) in wrapping.into_iter().enumerate() {
            assert!(std::panic::catch_unwind(|| compute(half)).is_err(), "computation {number}");
        }
        assert!(std::panic::catch_unwind(|| round_up_to(usize::MAX, 16)).is_err());
    }
}
