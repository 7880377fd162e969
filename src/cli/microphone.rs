//! A microphone as a source of sound: which one, how it is opened, and how it ends.

use super::capture::{Frames, Queue, missing};
use super::interrupt;
use super::table::count;
use crate::base::name::display;
use anyhow::{Result, anyhow};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, Device, ErrorKind, Host, StreamConfig, SupportedBufferSize, SupportedStreamConfig};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

/// Seconds of sound that wait while the program is busy; more is lost.
const QUEUED_S: u32 = 8;
/// Most samples that are taken at once.
const PIECE: usize = 1 << 15;
/// Pause between two looks at the queue.
const POLL: Duration = Duration::from_millis(10);
/// A microphone sends silence too: after so long without anything it is taken for gone. Some drivers report no error then.
const GONE: Duration = Duration::from_secs(5);
/// Errors without any sound between them that end the stream. A signal can be the cause of a single one.
const MOST_ERRORS: u32 = 10;
/// Longest time in which a stream is closed.
const CLOSING: Duration = Duration::from_millis(500);

/// What the threads of the driver and of the program share.
struct Shared {
    queue: Queue,
    overruns: AtomicU64,
    /// Errors since the last sound.
    errors: AtomicU32,
    /// Why the stream has ended.
    fault: OnceLock<String>,
}

/// A microphone that records.
pub struct Microphone {
    name: String,
    channels: u16,
    rate_hz: u32,
    shared: Arc<Shared>,
    stream: Option<cpal::Stream>,
    /// Samples that were read.
    samples: u64,
}

impl Microphone {
    /// Begins to record from the microphone of this name, or from the default one; `instead` is the command that needs none.
    pub fn open(wanted: Option<&str>, instead: &str) -> Result<Microphone> {
        silence_alsa();
        let none = || anyhow!("there is no microphone; connect one, or pipe the sound of another program: {instead}");
        let host = cpal::available_hosts().first().and_then(|&id| cpal::host_from_id(id).ok()).ok_or_else(none)?;
        let device = match wanted {
            Some(wanted) => find(&host, wanted).ok_or_else(|| match names(&host)[..] {
                [] => none(),
                ref names => {
                    anyhow!("there is no microphone {}; the microphones are {}", display(wanted), names.join(", "))
                }
            })?,
            None => host.default_input_device().ok_or_else(none)?,
        };
        let name = format!("the microphone {}", display(&label(&device)));
        let config = device.default_input_config().map_err(|error| match (wanted, error.kind()) {
            (None, ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable) => none(),
            _ => unusable(&name, &error, instead),
        })?;
        let shared = Arc::new(Shared {
            queue: Queue::new((QUEUED_S * config.sample_rate().min(1 << 20)) as usize),
            overruns: AtomicU64::new(0),
            errors: AtomicU32::new(0),
            fault: OnceLock::new(),
        });
        let stream = begin(&device, &config, &shared).map_err(|error| unusable(&name, &error, instead))?;
        let (channels, rate_hz) = (config.channels(), config.sample_rate());
        Ok(Microphone { name, channels, rate_hz, shared, stream: Some(stream), samples: 0 })
    }

    /// The microphone in a sentence.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is recorded, in words.
    pub fn describe(&self) -> String {
        format!("{}, {} Hz, {}; Ctrl-C ends", self.name, self.rate_hz, count(self.channels.into(), "channel"))
    }

    /// Samples per second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Samples that have been read.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// What is missing in the sound, if anything is.
    pub fn missing(&self) -> Option<String> {
        missing(self.shared.queue.lost(), self.rate_hz, self.shared.overruns.load(Ordering::Relaxed))
    }

    /// Appends what has arrived to `out`, the mean of the channels with full scale 1; waits if nothing has, until a signal asks the command to stop.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let mut waited = Duration::ZERO;
        loop {
            // Looked at first: what arrived before the fault is read before it is reported.
            let fault = self.shared.fault.get().cloned();
            let taken = self.shared.queue.take(PIECE, out);
            self.samples += taken as u64;
            if taken > 0 || interrupt::requested() {
                return Ok(());
            }
            let fault =
                fault.or_else(|| (waited >= GONE).then(|| format!("has sent no sound for {} seconds", GONE.as_secs())));
            if let Some(fault) = fault {
                self.close();
                return Err(anyhow!("{} {fault}; check its connection and run the command again", self.name));
            }
            // The pauses are added up, not the time: it goes on while the machine sleeps.
            std::thread::sleep(POLL);
            waited += POLL;
        }
    }

    /// Ends the recording. The stream waits for its thread, which a driver whose device has gone may keep for ever.
    fn close(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let (done, closed) = mpsc::channel();
        let close = move || {
            drop(stream);
            _ = done.send(());
        };
        if std::thread::Builder::new().spawn(close).is_ok() {
            _ = closed.recv_timeout(CLOSING);
        }
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        self.close();
    }
}

/// Begins a stream that puts its sound into the queue.
fn begin(device: &Device, config: &SupportedStreamConfig, shared: &Arc<Shared>) -> Result<cpal::Stream, cpal::Error> {
    let format = config.sample_format();
    let frames = Frames::new(format, config.channels())
        .ok_or_else(|| cpal::Error::with_message(ErrorKind::Other, format!("its sample format {format} is not PCM")))?;
    let build = |buffer_size: BufferSize| {
        let (of_data, of_errors) = (Arc::clone(shared), Arc::clone(shared));
        device.build_input_stream_raw(
            StreamConfig { buffer_size, ..config.config() },
            format,
            move |data, _| {
                of_data.errors.store(0, Ordering::Relaxed);
                of_data.queue.push(frames.mono(data.bytes()));
            },
            move |error| failed(&of_errors, &error),
            Some(GONE),
        )
    };
    let stream = match period(config.sample_rate(), config.buffer_size()) {
        Some(frames) => build(BufferSize::Fixed(frames)).or_else(|_| build(BufferSize::Default))?,
        None => build(BufferSize::Default)?,
    };
    stream.play()?;
    Ok(stream)
}

/// Frames that the driver delivers at once: a power of two of 50 to 100 ms, or the nearest that is possible. Others end in overruns without end on some sound servers
/// (cpal#1250), and much shorter ones where other programs use all cores.
fn period(rate_hz: u32, supported: &SupportedBufferSize) -> Option<u32> {
    let wanted = 1 << (rate_hz / 10).max(1).ilog2();
    match *supported {
        SupportedBufferSize::Unknown => Some(wanted),
        SupportedBufferSize::Range { min, max } => {
            let least = min.max(1).checked_next_power_of_two()?;
            let most = 1 << max.checked_ilog2()?;
            (least <= most).then(|| wanted.clamp(least, most))
        }
    }
}

/// Notes an error of a running stream, in the driver's thread.
fn failed(shared: &Shared, error: &cpal::Error) {
    use ErrorKind::*;
    match error.kind() {
        // The stream goes on.
        DeviceChanged | RealtimeDenied => return,
        Xrun => {
            shared.overruns.fetch_add(1, Ordering::Relaxed);
            return;
        }
        DeviceNotAvailable | StreamInvalidated | HostUnavailable => {}
        _ if shared.errors.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_ERRORS => {}
        _ => {
            // The stream tries again at once.
            std::thread::sleep(POLL);
            return;
        }
    }
    _ = shared.fault.set(format!("stopped: {}", reason(error)));
    std::thread::sleep(POLL);
}

/// What happened, as a clause.
fn reason(error: &cpal::Error) -> String {
    match error.kind() {
        ErrorKind::DeviceNotAvailable => "it is not connected".into(),
        ErrorKind::DeviceBusy => "another program uses it".into(),
        ErrorKind::HostUnavailable => "the sound system does not answer".into(),
        ErrorKind::PermissionDenied => "access was denied".into(),
        ErrorKind::UnsupportedConfig | ErrorKind::UnsupportedOperation => "it cannot record".into(),
        _ => display(error.to_string().trim_end_matches('.')),
    }
}

/// The sentence of a microphone that cannot be opened.
fn unusable(name: &str, error: &cpal::Error, instead: &str) -> anyhow::Error {
    anyhow!(
        "cannot open {name}: {}; choose another one with --mic=DEVICE, or pipe the sound of another program: {instead}",
        reason(error)
    )
}

/// The microphone of this name: what [`label`] gives, or the system's other names for it.
fn find(host: &Host, wanted: &str) -> Option<Device> {
    let named = |device: &Device| {
        device.id().is_ok_and(|id| id.id() == wanted)
            || device.description().is_ok_and(|description| description.name() == wanted)
    };
    if let Some(device) = host.input_devices().ok()?.find(named) {
        return Some(device);
    }
    if wanted == "default" {
        return host.default_input_device();
    }
    // ALSA's short names: hw:1,0.
    host.device_by_id(&cpal::DeviceId::new(host.id(), wanted))
}

/// The names of all microphones.
fn names(host: &Host) -> Vec<String> {
    let devices = host.input_devices().into_iter().flatten().map(|device| label(&device));
    // ALSA's device without sound.
    devices.filter(|name| name != "null").map(|name| display(&name)).collect()
}

/// The name of a device that a user knows: ALSA's own, elsewhere the one that the system's settings show.
fn label(device: &Device) -> String {
    let id = device.id().map(|id| id.id().to_string());
    let shown = device.description().map(|description| description.name().to_string());
    let (first, second) = if ALSA { (id, shown) } else { (shown, id) };
    first.or(second).unwrap_or_else(|_| "without a name".into())
}

const ALSA: bool = cfg!(any(target_os = "linux", target_os = "dragonfly", target_os = "freebsd", target_os = "netbsd"));

/// ALSA writes lines of its own to standard error for every device that it cannot open; from here on it does not, in this thread.
fn silence_alsa() {
    #[cfg(any(target_os = "linux", target_os = "dragonfly", target_os = "freebsd", target_os = "netbsd"))]
    {
        _ = alsa::Output::local_error_handler();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        let (overruns, errors) = (AtomicU64::new(0), AtomicU32::new(0));
        Shared { queue: Queue::new(16), overruns, errors, fault: OnceLock::new() }
    }

    #[test]
    fn a_period_is_a_power_of_two_that_is_possible() {
        let range = |min, max| SupportedBufferSize::Range { min, max };
        for (rate_hz, supported, wanted) in [
            (48_000, SupportedBufferSize::Unknown, Some(4096)),
            (16_000, range(0, u32::MAX), Some(1024)),
            (44_100, range(100, 1000), Some(512)),
            (8_000, range(1025, 9000), Some(2048)),
            (48_000, range(900, 1000), None),
            (48_000, range(0, 0), None),
            (1, range(1, 1), Some(1)),
        ] {
            assert_eq!(period(rate_hz, &supported), wanted, "{rate_hz} Hz, {supported:?}");
        }
    }

    #[test]
    fn overruns_go_on_and_a_device_that_is_gone_ends() {
        let shared = shared();
        for _ in 0..1000 {
            failed(&shared, &ErrorKind::Xrun.into());
        }
        failed(&shared, &ErrorKind::DeviceChanged.into());
        assert!(shared.fault.get().is_none() && shared.overruns.load(Ordering::Relaxed) == 1000);
        failed(&shared, &ErrorKind::DeviceNotAvailable.into());
        assert_eq!(shared.fault.get().unwrap(), "stopped: it is not connected");
    }

    #[test]
    fn a_single_error_goes_on_and_many_without_sound_end() {
        let shared = shared();
        let error = cpal::Error::with_message(ErrorKind::BackendError, "Input/output error.");
        for _ in 1..MOST_ERRORS {
            failed(&shared, &error);
        }
        assert!(shared.fault.get().is_none());
        failed(&shared, &error);
        assert_eq!(shared.fault.get().unwrap(), "stopped: Input/output error");
    }
}
