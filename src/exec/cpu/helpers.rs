//! Several threads for one sample: helper threads that wait for pieces of work during a whole run.
//!
//! An operation on one sample takes tens of microseconds, about as long as waking a thread that sleeps. So the threads are woken once for each run, and
//! wait in a loop for the pieces of one operation after the other. The thread that leads the run takes pieces too: a helper that never comes, because its
//! thread has other work, delays nothing.

#![allow(unsafe_code)] // reason: helpers outlive the borrow of the work that they are given, see `Helpers::help`

use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread::yield_now;

/// What is done with a piece, given its number.
type Work<'w> = dyn Fn(usize) + Sync + 'w;

/// Rounds of a waiting loop after which the thread lets others run, about 20 microseconds.
const PATIENCE: u32 = 1 << 10;

/// The pieces of the operation that is being computed.
#[derive(Default)]
pub(super) struct Helpers {
    /// The number of the job, how many of its pieces have been taken, and how many there are: 32, 16 and 16 bits.
    taken: AtomicU64,
    /// The job; dangling where all pieces are done.
    work: AtomicPtr<&'static Work<'static>>,
    done: AtomicUsize,
    /// Whether a thread is in [`Helpers::for_each`].
    busy: AtomicBool,
    /// Whether the run has ended.
    ended: AtomicBool,
    panicked: AtomicBool,
}

fn pieces(taken: u64) -> [u64; 2] {
    [taken >> 16 & 0xffff, taken & 0xffff]
}

/// Sets a flag when it is dropped, also while a panic unwinds.
struct Set<'a>(&'a AtomicBool, bool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Release);
    }
}

/// Waits until `ready` returns true.
fn wait(mut ready: impl FnMut() -> bool) {
    let mut rounds = 0;
    while !ready() {
        rounds += 1;
        if rounds < PATIENCE { spin_loop() } else { yield_now() }
    }
}

impl Helpers {
    /// Calls `lead`, with the help of up to `helpers` other threads of the current pool. Allocates nothing.
    pub fn run<R: Send>(&self, helpers: usize, lead: impl FnOnce() -> R + Send) -> R {
        self.ended.store(false, Ordering::Release);
        self.with(helpers, lead)
    }

    fn with<R: Send>(&self, helpers: usize, lead: impl FnOnce() -> R + Send) -> R {
        if helpers == 0 {
            let _end = Set(&self.ended, true);
            return lead();
        }
        rayon::join(|| self.with(helpers - 1, lead), || self.help()).0
    }

    /// Calls `work` with the numbers below `count`, on this thread and on those that help; returns when all calls have returned.
    ///
    /// # Panics
    /// If a call panics.
    pub fn for_each(&self, count: usize, work: &Work<'_>) {
        let numbers = u16::try_from(count).ok().filter(|&count| count > 1);
        let free = || self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let Some(numbers) = numbers.filter(|_| free()) else { return (0..count).for_each(work) };
        let _free = Set(&self.busy, false);
        self.work.store(ptr::from_ref(&work).cast_mut().cast(), Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        let job = (self.taken.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.taken.store(job << 32 | u64::from(numbers), Ordering::Release);
        while let Some(number) = self.take() {
            self.call(work, number);
        }
        wait(|| self.done.load(Ordering::Acquire) == count);
        assert!(!self.panicked.swap(false, Ordering::Relaxed), "a piece of an operation panicked");
    }

    /// Takes a piece, if one is left.
    fn take(&self) -> Option<usize> {
        let mut taken = self.taken.load(Ordering::Acquire);
        loop {
            let [next, count] = pieces(taken);
            if next == count {
                return None;
            }
            match self.taken.compare_exchange_weak(taken, taken + (1 << 16), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(next as usize),
                Err(now) => taken = now,
            }
        }
    }

    /// Calls `work`. A panic is kept for the leading thread, which would otherwise wait for this piece for ever.
    fn call(&self, work: &Work<'_>, number: usize) {
        if catch_unwind(AssertUnwindSafe(|| work(number))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.done.fetch_add(1, Ordering::Release);
    }

    /// Takes pieces of one job after the other until the run ends.
    fn help(&self) {
        wait(|| {
            while let Some(number) = self.take() {
                // SAFETY: `for_each` stores the address of its own reference before it offers the pieces, and returns only when all of them are
                // done. This piece is not done before `call` below has returned, so that the reference and what it borrows still exist; and no
                // other job can have taken its place, because there is one `for_each` at a time (`busy`).
                let work: &Work<'_> = unsafe { *self.work.load(Ordering::Acquire) };
                self.call(work, number);
            }
            self.ended.load(Ordering::Acquire)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A pool of `threads` threads.
    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started")
    }

    #[test]
    fn each_piece_of_each_job_is_done_once() {
        for threads in [1, 2, 3, 8] {
            pool(threads).install(|| {
                let helpers = Helpers::default();
                for run in 0..20 {
                    let once = |job: usize| {
                        let count = (job + run) % 9;
                        let calls: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                        helpers.for_each(count, &|number| {
                            calls[number].fetch_add(1, Ordering::Relaxed);
                        });
                        calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1)
                    };
                    let all = helpers.run(threads - 1, || (0..100).all(once));
                    assert!(all, "{threads} threads, run {run}");
                }
            });
        }
    }

    #[test]
    fn other_threads_do_help() {
        pool(2).install(|| {
            let (helpers, threads) = (Helpers::default(), Mutex::new(Vec::new()));
            helpers.run(1, || {
                // The leading thread cannot do both pieces: each waits until the other has begun.
                let begun = AtomicUsize::new(0);
                helpers.for_each(2, &|_| {
                    begun.fetch_add(1, Ordering::AcqRel);
                    wait(|| begun.load(Ordering::Acquire) == 2);
                    threads.lock().unwrap().push(rayon::current_thread_index());
                });
            });
            let threads = threads.into_inner().unwrap();
            assert!(threads.len() == 2 && threads[0] != threads[1], "{threads:?}");
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_ends_the_run() {
        pool(3).install(|| {
            let helpers = Helpers::default();
            let work = |number: usize| assert!(number != 1, "a piece fails");
            let panicked = catch_unwind(AssertUnwindSafe(|| helpers.run(2, || helpers.for_each(3, &work)))).is_err();
            assert!(panicked);
            // Afterwards it works as before.
            let calls = AtomicUsize::new(0);
            helpers.run(2, || {
                helpers.for_each(5, &|_| {
                    calls.fetch_add(1, Ordering::Relaxed);
                })
            });
            assert_eq!(calls.into_inner(), 5);
        });
    }

    #[test]
    fn a_job_within_a_job_is_done_by_its_own_thread() {
        let (helpers, calls) = (Helpers::default(), AtomicUsize::new(0));
        helpers.for_each(3, &|_| {
            helpers.for_each(4, &|_| {
                calls.fetch_add(1, Ordering::Relaxed);
            })
        });
        assert_eq!(calls.into_inner(), 12);
    }
}
