//! The mel scale: frequencies at equal distances on it sound equally far apart.
//!
//! The formula is that of O'Shaughnessy, "Speech Communication: Human and Machine", 1987, page 150, which HTK and most feature extractors use:
//! `mel = 2595 log10(1 + f / 700)`. It is nearly linear below 700 Hz and logarithmic above.

/// The place of a frequency, in Hz, on the mel scale; 0 for one below 0 Hz.
pub fn hz_to_mel(hz: f64) -> f64 {
    2595.0 * (1.0 + hz.max(0.0) / 700.0).log10()
}

/// The frequency, in Hz, at a place on the mel scale; 0 for a place below 0.
pub fn mel_to_hz(mel: f64) -> f64 {
    700.0 * (10f64.powf(mel.max(0.0) / 2595.0) - 1.0)
}

/// The edges of `bands` bands of equal width in mel from 0 Hz to `to`, in Hz: `bands + 1` frequencies.
pub fn mel_edges(bands: usize, to: f64) -> Vec<f64> {
    let top = hz_to_mel(to);
    (0..=bands).map(|edge| mel_to_hz(top * edge as f64 / bands.max(1) as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_hertz_are_a_thousand_mel_and_the_way_back_is_the_same() {
        assert!((hz_to_mel(1000.0) - 1000.0).abs() < 0.1, "{}", hz_to_mel(1000.0));
        for hz in [0.0, 1e-3, 50.0, 700.0, 8000.0, 384e3] {
            assert!((mel_to_hz(hz_to_mel(hz)) - hz).abs() < 1e-9 * (1.0 + hz), "{hz}");
        }
        assert_eq!((hz_to_mel(-5.0), mel_to_hz(-5.0)), (0.0, 0.0));
        let edges = mel_edges(24, 8000.0);
        assert_eq!(edges.len(), 25);
        assert!((edges[24] - 8000.0).abs() < 1e-6 && edges.windows(2).all(|w| w[0] < w[1]));
    }
}
