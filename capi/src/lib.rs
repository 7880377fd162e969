//! The C interface of stapes: words in clips and in streams of samples. `stapes.h` is its header.
//!
//! A function that fails returns a null pointer or -1, and [`stapes_last_error`] says why in a sentence. No function panics into C. A pointer to a recogniser or stream must be one that a
//! function of this library returned and that was not freed, and must not be used by two threads at once.

use stapes_rust::listen::{Event, Recogniser, Stream};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// A trained network with its words.
pub struct StapesRecogniser {
    recogniser: Recogniser,
    words: Vec<CString>,
}

/// A stream of samples in which words are recognised.
pub struct StapesStream(Stream);

/// A word that was recognised in a stream.
#[repr(C)]
pub struct StapesEvent {
    /// The word, in UTF-8; valid during the call only.
    pub word: *const c_char,
    /// Its largest averaged probability.
    pub probability: f64,
    /// Where its sound begins, in seconds from the start of the stream.
    pub start: f64,
    /// Where its sound ends, in seconds.
    pub end: f64,
}

/// Called for each word that is recognised, with the pointer that was given beside it.
pub type StapesOnEvent = Option<unsafe extern "C" fn(user: *mut c_void, event: *const StapesEvent)>;

fn text(of: &str) -> CString {
    CString::new(of.replace('\0', " ")).unwrap_or_default()
}

/// The result of `work`; nothing if it fails or panics, which is then the last error.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("internal error; report it".into()));
    match done {
        Ok(value) => Some(value),
        Err(error) => {
            LAST_ERROR.with(|last| *last.borrow_mut() = text(&error));
            None
        }
    }
}

/// The samples of a pointer and a length.
///
/// # Safety
/// `samples` points to `count` values, or is null if `count` is 0.
unsafe fn slice<'a>(samples: *const f32, count: usize) -> Result<&'a [f32], String> {
    match (samples.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err("the pointer to the samples is null".into()),
        // SAFETY: it points to `count` values, as the caller states.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(samples, count) }),
    }
}

/// Why the last function of this thread failed, a sentence in UTF-8; valid until the next one fails.
#[unsafe(no_mangle)]
pub extern "C" fn stapes_last_error() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}

/// Loads a run folder or a weight file that stores its network and words, and listen.toml beside it. Null if that fails.
///
/// # Safety
/// `path` is a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_load(path: *const c_char) -> *mut StapesRecogniser {
    let load = || {
        if path.is_null() {
            return Err("the path is null".into());
        }
        // SAFETY: it is not null and ends with a zero byte, as the caller states.
        let path = unsafe { CStr::from_ptr(path) };
        let path = path.to_str().map_err(|_| "the path is not UTF-8".to_string())?;
        let recogniser = Recogniser::load(Path::new(path)).map_err(|e| e.to_string())?;
        let words = recogniser.manifest.words.iter().map(|word| text(&word.to_string())).collect();
        Ok(Box::into_raw(Box::new(StapesRecogniser { recogniser, words })))
    };
    guarded(load).unwrap_or(ptr::null_mut())
}

/// Frees a recogniser; streams that it began go on. Null is ignored.
///
/// # Safety
/// `recogniser` is null, or one of `stapes_load` that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_free(recogniser: *mut StapesRecogniser) {
    if !recogniser.is_null() {
        // SAFETY: it is of `Box::into_raw` in `stapes_load` and was not freed, as the caller states.
        drop(unsafe { Box::from_raw(recogniser) });
    }
}

/// The sample rate of the network in hertz; 0 for null. Sound of any other rate is converted.
///
/// # Safety
/// `recogniser` is null, or one of `stapes_load` that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_rate(recogniser: *const StapesRecogniser) -> u32 {
    // SAFETY: it is null or valid, as the caller states.
    unsafe { recogniser.as_ref() }.map_or(0, |of| of.recogniser.rate_hz())
}

/// How many words the network has; 0 for null.
///
/// # Safety
/// `recogniser` is null, or one of `stapes_load` that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_word_count(recogniser: *const StapesRecogniser) -> usize {
    // SAFETY: it is null or valid, as the caller states.
    unsafe { recogniser.as_ref() }.map_or(0, |of| of.words.len())
}

/// Word number `index`, in UTF-8, valid as long as the recogniser; null if there is none.
///
/// # Safety
/// `recogniser` is null, or one of `stapes_load` that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_word(recogniser: *const StapesRecogniser, index: usize) -> *const c_char {
    // SAFETY: it is null or valid, as the caller states.
    let of = unsafe { recogniser.as_ref() };
    of.and_then(|of| of.words.get(index)).map_or(ptr::null(), |word| word.as_ptr())
}

/// The number of the most probable word in a clip of one channel with full scale 1; -1 if that fails. If `probabilities` is not null, it receives the probability of every word.
///
/// # Safety
/// `recogniser` is one of `stapes_load` that was not freed, `samples` points to `count` values, and `probabilities` is null or has room for `stapes_word_count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_recognise(
    recogniser: *mut StapesRecogniser,
    samples: *const f32,
    count: usize,
    rate_hz: u32,
    probabilities: *mut f32,
) -> c_int {
    let work = || {
        // SAFETY: it is null or valid, as the caller states.
        let of = unsafe { recogniser.as_mut() }.ok_or("the recogniser is null")?;
        // SAFETY: the pointer has `count` values, as the caller states.
        let samples = unsafe { slice(samples, count) }?;
        let found = of.recogniser.recognise(samples, rate_hz).map_err(|e| e.to_string())?;
        if !probabilities.is_null() {
            // SAFETY: it has room for a value of each word, as the caller states.
            let to = unsafe { std::slice::from_raw_parts_mut(probabilities, of.words.len()) };
            to.iter_mut().zip(&found.probabilities).for_each(|(to, &p)| *to = p as f32);
        }
        let number = of.recogniser.manifest.words.iter().position(|word| *word == found.word);
        Ok(number.map_or(-1, |number| number as c_int))
    };
    guarded(work).unwrap_or(-1)
}

/// Begins a stream of one channel of this sample rate. Null if that fails.
///
/// # Safety
/// `recogniser` is one of `stapes_load` that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_stream_begin(recogniser: *const StapesRecogniser, rate_hz: u32) -> *mut StapesStream {
    let begin = || {
        // SAFETY: it is null or valid, as the caller states.
        let of = unsafe { recogniser.as_ref() }.ok_or("the recogniser is null")?;
        let stream = of.recogniser.stream(rate_hz).map_err(|e| e.to_string())?;
        Ok(Box::into_raw(Box::new(StapesStream(stream))))
    };
    guarded(begin).unwrap_or(ptr::null_mut())
}

/// Takes the next samples, with full scale 1, in pieces of any size, and calls `on_event` for each word that was decided. Returns how many words; -1 if that fails.
///
/// # Safety
/// `stream` is one of `stapes_stream_begin` that was not ended, `samples` points to `count` values, and `on_event` may be called with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_stream_push(
    stream: *mut StapesStream,
    samples: *const f32,
    count: usize,
    on_event: StapesOnEvent,
    user: *mut c_void,
) -> c_int {
    let work = || {
        // SAFETY: it is null or valid, as the caller states.
        let stream = unsafe { stream.as_mut() }.ok_or("the stream is null")?;
        // SAFETY: the pointer has `count` values, as the caller states.
        let samples = unsafe { slice(samples, count) }?;
        stream.0.push(samples).map_err(|e| e.to_string())
    };
    // SAFETY: `on_event` may be called with `user`, as the caller states.
    guarded(work).map_or(-1, |events| unsafe { report(&events, on_event, user) })
}

/// Ends a stream and frees it, and calls `on_event` for each word in its rest. Returns how many words; -1 if that fails. The stream is freed in any case.
///
/// # Safety
/// `stream` is one of `stapes_stream_begin` that was not ended, and `on_event` may be called with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stapes_stream_end(
    stream: *mut StapesStream,
    on_event: StapesOnEvent,
    user: *mut c_void,
) -> c_int {
    let work = || {
        if stream.is_null() {
            return Err("the stream is null".into());
        }
        // SAFETY: it is of `Box::into_raw` in `stapes_stream_begin` and was not ended, as the caller states.
        let stream = unsafe { Box::from_raw(stream) };
        stream.0.finish().map_err(|e| e.to_string())
    };
    // SAFETY: `on_event` may be called with `user`, as the caller states.
    guarded(work).map_or(-1, |events| unsafe { report(&events, on_event, user) })
}

/// Calls `on_event` for each event.
///
/// # Safety
/// `on_event` may be called with `user`.
unsafe fn report(events: &[Event], on_event: StapesOnEvent, user: *mut c_void) -> c_int {
    for event in events {
        let word = text(&event.word.to_string());
        let Event { probability, start, end, .. } = *event;
        let event = StapesEvent { word: word.as_ptr(), probability, start, end };
        if let Some(call) = on_event {
            // SAFETY: the caller allows it; the event lives until the call returns.
            unsafe { call(user, &event) };
        }
    }
    events.len() as c_int
}
