//! Catches a panic of a decoder without its message on standard error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether the panic hook is silent on this thread.
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and returns its result, or nothing if it panics; the panic's message is not printed.
///
/// The first call installs a panic hook that passes every panic outside of `work`, on this and all other threads, on to
/// the hook that was there before. A hook that is installed later replaces it, and then prints the message.
pub(super) fn catch_quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !SILENT.try_with(Cell::get).unwrap_or(false) {
                previous(panic);
            }
        }));
    });
    let before = SILENT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    SILENT.set(before);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_nothing_and_the_thread_is_loud_afterwards() {
        assert_eq!(catch_quietly(|| 7), Some(7));
        assert_eq!(catch_quietly(|| -> u8 { panic!("of a decoder") }), None);
        assert!(!SILENT.get());
        assert_eq!(catch_quietly(|| catch_quietly(|| -> u8 { panic!("inner") }).is_none() && SILENT.get()), Some(true));
    }
}
