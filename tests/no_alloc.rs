//! A training step after the first allocates nothing, on any thread of its pool; neither does the augmentation of a clip.
#![allow(unsafe_code)] // reason: the allocator's contract is unsafe

use stapes::base::rng::{Key, Stream};
use stapes::nn::{Network, NetworkSpec};
use stapes::optim::AdamSettings;
use stapes::train::Trainer;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, which counts what it hands out to the threads of the pool.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is the pool's: those of the test harness may allocate when they like.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get) == Ok(true) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it came; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.realloc(memory, layout, new_size) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Every op of the study's networks: convolutions of both kinds of padding, both pools, dropout, two dense layers.
const NETWORK: &str = r#"
    name = "small"
    input = { length = 400, channels = 1, sample_rate = 16000 }
    head = { dropout = 0.5, dense = [20], pool = "average" }
    [[block]]
    conv = 32
    kernel = 25
    padding = "valid"
    pool = 3
    [[block]]
    conv = 40
    kernel = 5
    stride = 2
    pool = 3
    pool_stride = 2
    pool_ceil = true
    [[block]]
    conv = 40
    kernel = 3
    separable = true
    residual = true
"#;

/// More parameters than Adam takes at once, so that its pieces are dealt to threads.
const WIDE: &str = r#"
    name = "wide"
    batch_norm = true
    input = { length = 60, channels = 1, sample_rate = 16000 }
    head = { dropout = 0.5, batch_norm = true }
    [[block]]
    conv = 64
    kernel = 5
    [[block]]
    conv = 120
    kernel = 5
"#;

const BATCH: usize = 9;
const CLASSES: usize = 4;

/// Allocations in steps 3 to 10, by step; with clipping, weight decay and an average of the weights, or without.
fn allocations(text: &str, batch_norm: bool, recipe: bool) -> Vec<u64> {
    let mut spec = NetworkSpec::parse(text, "test").unwrap();
    spec.batch_norm = batch_norm;
    let network = Arc::new(Network::build(&spec, CLASSES).unwrap());
    let mut trainer = Trainer::builder(&network).batch(BATCH);
    if recipe {
        let adam = AdamSettings { weight_decay: 0.05, clip_norm: 0.1, ..AdamSettings::default() };
        trainer = trainer.adam(adam).average(0.99);
    }
    let mut trainer = trainer.build().unwrap();
    let key = Key::new(1, Stream::Case);
    let len = (BATCH * network.graph.shape(network.audio).size()) as u64;
    let inputs: Vec<f32> = (0..len).map(|i| key.normal(i) as f32).collect();
    let labels: Vec<f32> = (0..BATCH).map(|i| (i % CLASSES) as f32).collect();
    let mut counted = [0; 11];
    for count in &mut counted {
        *count = ALLOCATIONS.load(Ordering::SeqCst);
        assert!(trainer.step(&inputs, &labels).unwrap().loss.is_finite());
    }
    counted.windows(2).skip(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Allocations while a clip is augmented, after the first time.
#[cfg(feature = "audio")]
fn allocations_of_augmentation() -> u64 {
    use stapes::data::{Augment, AugmentWorkspace, Augmenter, Format};
    let augment =
        Augment { shift: 0.1, gain: 6.0, equaliser: 0.5, noise: 0.5, speed: 0.1, mask: 0.5, ..Augment::default() };
    let format = Format { rate_hz: 16_000, channels: 1 };
    let augmenter = Augmenter::with_tracks(augment, vec![vec![100; 1_000]], format, 1).unwrap();
    let (samples, mut row, mut workspace) = (vec![1_000; 2_000], vec![0.0; 2_000], AugmentWorkspace::default());
    augmenter.apply(0, 0, &samples, &mut row, &mut workspace);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    (1..200).for_each(|epoch| augmenter.apply(epoch, 0, &samples, &mut row, &mut workspace));
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

#[test]
fn a_step_after_the_first_allocates_nothing() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).start_handler(|_| COUNTED.set(true));
    let pool = pool.build().unwrap();
    pool.install(|| {
        for text in [NETWORK, WIDE] {
            for (batch_norm, recipe) in [(false, false), (true, false), (true, true)] {
                let counted = allocations(text, batch_norm, recipe);
                assert_eq!(counted, [0; 8], "in steps 3 to 10, batch norm {batch_norm}, recipe {recipe}, {text}");
            }
        }
    });
    #[cfg(feature = "audio")]
    pool.install(|| assert_eq!(allocations_of_augmentation(), 0));
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > 100, "making a trainer allocates, and the counter counts");
}
