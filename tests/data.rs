//! Audio files: every encoding, every rate, every kind of invalid file, and clips inside the program.

#[path = "data/files.rs"]
#[allow(dead_code)] // two test programs share it
mod files;

use files::*;
use stapes::base::rng::{Key, Stream};
use stapes::data::*;

const MONO: Format = Format { rate_hz: 16_000, channels: 1 };

fn read(bytes: &[u8]) -> Result<Clip, ClipFault> {
    read_clip(bytes, "clip", MONO).map_err(|e| e.fault)
}

#[test]
fn every_coding_rate_and_channel_count_gives_the_same_tone() {
    // Coding and the largest difference to the tone in steps of 16 bits: rounding to 8 bits leaves 128, G.711 at half
    // of full scale 512, and a resampled clip a little more.
    let codes = [
        (Code::Int(8), 300),
        (Code::Int(16), 2),
        (Code::Int(24), 2),
        (Code::Int(32), 2),
        (Code::Float(32), 2),
        (Code::Float(64), 2),
        (Code::MuLaw, 700),
        (Code::ALaw, 700),
        (Code::Extensible(16, 16), 2),
        (Code::Extensible(24, 20), 2),
        (Code::Extensible(32, 24), 2),
        (Code::ExtensibleFloat, 2),
    ];
    for (code, tolerance) in codes {
        for channels in [1u16, 2, 6] {
            for rate_hz in [16_000, 8_000, 44_100, 48_000] {
                let wav = Wav { code, channels, rate_hz };
                let frames = rate_hz as usize / 5;
                let tone = sine(440.0, rate_hz, frames);
                let values: Vec<f64> = tone.iter().flat_map(|&v| vec![v; channels.into()]).collect();
                let clip = read(&wav.file(&values)).unwrap_or_else(|e| panic!("{wav:?}: {e}"));
                assert_eq!((clip.source_rate_hz, clip.source_channels), (rate_hz, channels.into()));
                let expected = sine(440.0, 16_000, frames * 16_000 / rate_hz as usize);
                assert_eq!(clip.samples.len(), expected.len(), "{wav:?}");
                // The filter rings at the ends of a resampled clip.
                let edge = if rate_hz == 16_000 { 0 } else { 400 };
                // Its place is exact to about a sample, in which the tone changes by this much.
                let step = expected.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f64::max) * 32768.0;
                let allowed = f64::from(tolerance) + if rate_hz == 16_000 { 0.0 } else { 1.1 * step };
                for (i, (&got, want)) in clip.samples.iter().zip(&expected).enumerate() {
                    let difference = f64::from(got) - want * 32768.0;
                    let inside = (edge..expected.len() - edge).contains(&i);
                    assert!(!inside || difference.abs() <= allowed, "{wav:?}: {difference} at {i}");
                }
            }
        }
    }
}

#[test]
fn valid_files_that_strict_readers_refuse_are_read() {
    let samples = noise(1, 300);
    let data: Vec<u8> = samples.iter().flat_map(|v| v.to_le_bytes()).collect();
    let fmt = PLAIN.fmt();
    let plain = wav16(&samples);
    let odd = [&data[..], &[7]].concat();
    let ds64 = [[0u8; 8], 600u64.to_le_bytes(), [0; 8]].concat();
    let mut rf64 = with_sizes(riff(&[(b"ds64", &ds64), (b"fmt ", &fmt), (b"data", &data)]), u32::MAX, Some(u32::MAX));
    rf64[..4].copy_from_slice(b"RF64");
    let mut long_fmt = fmt.clone();
    long_fmt.extend([0, 0, 0, 0]);
    for (what, file) in [
        ("plain", plain.clone()),
        ("size unknown, ffmpeg", with_sizes(plain.clone(), u32::MAX, Some(u32::MAX))),
        ("size unknown, even", with_sizes(plain.clone(), u32::MAX - 1, None)),
        ("size unknown, SoX", with_sizes(plain.clone(), 0x7FFF_F000, Some(0x7FFF_F024))),
        ("size unknown, arecord", with_sizes(plain.clone(), 0x8000_0000, Some(0x8000_0024))),
        ("size never filled in", with_sizes(plain.clone(), 0, Some(0))),
        ("half a value at the end", riff(&[(b"fmt ", &fmt), (b"data", &odd)])),
        ("odd LIST with padding", riff(&[(b"LIST", b"INFOabc"), (b"fmt ", &fmt), (b"data", &data)])),
        (
            "odd LIST without padding",
            [&riff(&[(b"LIST", b"INFOabc")])[..19 + 8], &riff(&[(b"fmt ", &fmt), (b"data", &data)])[12..]].concat(),
        ),
        ("LIST after the data", riff(&[(b"fmt ", &fmt), (b"data", &data), (b"LIST", b"INFO")])),
        ("fmt chunk of 20 bytes", riff(&[(b"fmt ", &long_fmt), (b"data", &data)])),
        ("RF64", rf64),
        ("outer size wrong", with_sizes(plain.clone(), 600, Some(17))),
    ] {
        let clip = read(&file).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(clip.samples, samples, "{what}");
    }
}

#[test]
fn broken_files_say_what_is_wrong() {
    let plain = wav16(&noise(1, 300));
    let with_byte = |at: usize, byte: u8| {
        let mut file = plain.clone();
        file[at] = byte;
        file
    };
    let float = Wav { code: Code::Float(32), ..PLAIN };
    let double = Wav { code: Code::Float(64), ..PLAIN };
    let empty = riff(&[(b"fmt ", &PLAIN.fmt()), (b"data", b"")]);
    let cut_ogg = TONES_OGG[..TONES_OGG.len() - 600].to_vec();
    let mut damaged_flac = NOISE_FLAC.to_vec();
    damaged_flac[2_000] ^= 0x10;
    for (file, says) in [
        (b"".to_vec(), "empty file"),
        (b"this is a text that somebody called .wav".to_vec(), "a text file, not WAV"),
        (b"RIFF".to_vec(), "the WAVE identifier is missing"),
        (b"RIFF\0\0\0\0WAVE".to_vec(), "no fmt chunk"),
        (b"fLaC".to_vec(), "damaged"),
        (b"OggS".to_vec(), "no last page"),
        (empty.clone(), "no samples"),
        (with_sizes(empty, u32::MAX, None), "no samples"),
        (plain[..244].to_vec(), "states 300 samples per channel and the file contains 100"),
        (plain[..40].to_vec(), "no data chunk"),
        (
            with_sizes(plain.clone(), 0xF000_0000, None),
            "states 2013265920 samples per channel and the file contains 300",
        ),
        (with_sizes(plain.clone(), 0x7FFF_FFFF, None), "states 1073741823"),
        (riff(&[(b"data", b"1234"), (b"fmt ", &PLAIN.fmt())]), "data chunk comes before"),
        (riff(&[(b"fmt ", b"1234"), (b"data", b"1234")]), "fmt chunk is too short"),
        (with_byte(22, 0), "no channels"),
        (with_byte(22, 3), "do not hold 3 channels"),
        (with_byte(34, 77), "of 77 bits"),
        (with_byte(20, 2), "ADPCM, is not supported"),
        (with_byte(20, 0x55), "MPEG audio"),
        (with_byte(20, 3), "WAV code 3 with 2 bytes a value"),
        (with_byte(27, 0xFF), "outside 1000 to 768000 Hz"),
        (Wav { rate_hz: 0, ..PLAIN }.file(&[0.0; 9]), "rate of 0 Hz"),
        (float.file(&[0.0, 0.1, f64::NAN, 0.2]), "value number 2 is NaN or infinite"),
        (double.file(&[f64::NEG_INFINITY]), "value number 0 is NaN"),
        (NOISE_FLAC[..3_000].to_vec(), "truncated or damaged"),
        (damaged_flac, "0 of 3000 samples"),
        (cut_ogg, "its stream has no last page"),
    ] {
        let error = read_clip(&file, "word/clip.wav", MONO).expect_err(says).to_string();
        assert!(error.starts_with("word/clip.wav: it"), "{error}");
        assert!(error.contains(says), "`{error}` does not say `{says}`");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_network_of_two_channels_takes_clips_of_two_channels_alone() {
    let stereo = Format { rate_hz: 16_000, channels: 2 };
    let values: Vec<f64> = (0..100).map(|i| f64::from(i % 2) * 0.5).collect();
    let clip = read_clip(&Wav { channels: 2, ..PLAIN }.file(&values), "c", stereo).unwrap();
    assert_eq!(clip.samples[..4], [0, 16_384, 0, 16_384]);
    for channels in [1, 3] {
        let error = read_clip(&Wav { channels, ..PLAIN }.file(&values[..99]), "c", stereo).unwrap_err();
        assert_eq!(error.fault, ClipFault::Channels { have: channels.into(), want: 2 });
    }
    assert_eq!(read_clip(STEREO_FLAC, "c", stereo).unwrap().samples.len(), 2 * 800);
}

#[test]
fn flac_is_exact() {
    let mut state = 1u64;
    let expected: Vec<i16> = std::iter::repeat_with(|| {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        ((state >> 16) % 4_001) as i16 - 2_000
    })
    .take(3_000)
    .collect();
    assert_eq!(read(NOISE_FLAC).unwrap().samples, expected);
    let clip = read(STEREO_FLAC).unwrap();
    assert_eq!((clip.source_rate_hz, clip.source_channels, clip.samples.len()), (48_000, 2, 800));
    // The ramp of 3,000 a frame in 24 bits, every third frame, mixed with silence; a sample of place is 18.
    let middle = clip.samples[400];
    assert!((i32::from(middle) - 3_000 * 1_200 / 256 / 2).abs() <= 18, "{middle}");
}

/// One page of an Ogg file.
fn ogg_page(flags: u8, serial: u32, body: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend([0; 8]);
    page.extend(serial.to_le_bytes());
    page.extend([0; 8]);
    page.extend([1, body.len() as u8]);
    page.extend(body);
    correct_ogg_checksums(&mut page);
    page
}

#[test]
fn case_25_streams_in_ogg_are_read_or_named() {
    let ogg_flac = read(NOISE_OGA).unwrap();
    assert_eq!(ogg_flac, read(NOISE_FLAC).unwrap());
    let skeleton = ogg_page(2, 1, b"fishead\0");
    let rest = ogg_page(4, 2, b"data");
    for (head, text) in [
        (&b"OpusHead\x01\x01"[..], "it is Ogg Opus; convert it: ffmpeg -i x.opus x.wav"),
        (b"Speex   1.2", "it is Ogg Speex; convert it: ffmpeg -i x.spx x.wav"),
        (b"\x80theora\x03\x02", "it is an Ogg Theora video; convert it: ffmpeg -i x.ogv x.wav"),
        (b"CELT    ", "it is Ogg CELT; convert it: ffmpeg -i x.ogg x.wav"),
        (b"unheard of", "it is Ogg with an unknown codec; convert it: ffmpeg -i x.ogg x.wav"),
    ] {
        let file = [&ogg_page(2, 2, head)[..], &rest].concat();
        assert_eq!(read(&file).unwrap_err().to_string(), text);
        assert_eq!(read(&[&skeleton[..], &file].concat()).unwrap_err().to_string(), text);
    }
    let chain = [TONES_OGG, TONES_OGG].concat();
    let text = "it is a chain of several Ogg streams; convert it: ffmpeg -i x.ogg x.wav";
    assert_eq!(read(&chain).unwrap_err().to_string(), text);
}

#[test]
fn case_27_tags_and_trailing_bytes_are_no_damage() {
    let id3v2 = b"ID3\x03\0\0\0\0\0\x08TIT2\0\0\0\0";
    let id3v1 = [&b"TAG"[..], &[0; 125]].concat();
    let zeros = [0; 5_000];
    let random: Vec<u8> = noise(7, 4_000).iter().flat_map(|v| v.to_le_bytes()).collect();
    let wav = wav16(&noise(1, 300));
    for good in [NOISE_FLAC, STEREO_FLAC, NOISE_OGA, TONES_OGG, &wav] {
        let expected = read(good).unwrap();
        let native_flac = good.starts_with(b"fLaC");
        for tail in [&b""[..], &id3v1, b"\0", &zeros, &random] {
            // symphonia finds the end of the last FLAC frame only by what follows it: noise may hide it.
            if native_flac && tail.len() == random.len() {
                continue;
            }
            assert_eq!(read(&[good, tail].concat()).as_ref(), Ok(&expected), "{} bytes after", tail.len());
            assert_eq!(read(&[&id3v2[..], good, tail].concat()).as_ref(), Ok(&expected), "{} bytes after", tail.len());
        }
    }
    // A stream that is cut stays damaged, whatever follows it.
    for (good, tail) in [(NOISE_FLAC, &id3v1[..]), (NOISE_FLAC, &zeros), (TONES_OGG, &id3v1), (NOISE_OGA, &zeros)] {
        let error = read(&[&good[..good.len() - 700], tail].concat()).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}

#[test]
fn big_endian_and_64_bit_wav_files_are_read() {
    let samples = noise(3, 200);
    let mut rifx = b"RIFX".to_vec();
    rifx.extend(436u32.to_be_bytes());
    rifx.extend(b"WAVEfmt ");
    rifx.extend(16u32.to_be_bytes());
    for v in [1u16, 1] {
        rifx.extend(v.to_be_bytes());
    }
    for v in [16_000u32, 32_000] {
        rifx.extend(v.to_be_bytes());
    }
    for v in [2u16, 16] {
        rifx.extend(v.to_be_bytes());
    }
    rifx.extend(b"data");
    rifx.extend(400u32.to_be_bytes());
    rifx.extend(samples.iter().flat_map(|v| v.to_be_bytes()));
    assert_eq!(read(&rifx).unwrap().samples, samples);
    let data: Vec<u8> = samples.iter().flat_map(|v| v.to_le_bytes()).collect();
    let ds64 = [[0u8; 8], 400u64.to_le_bytes(), [0; 8]].concat();
    let chunks = riff(&[(b"ds64", &ds64), (b"fmt ", &PLAIN.fmt()), (b"data", &data)]);
    let mut bw64 = with_sizes(chunks, u32::MAX, Some(u32::MAX));
    bw64[..4].copy_from_slice(b"BW64");
    assert_eq!(read(&bw64).unwrap().samples, samples);
}

#[test]
fn embedded_clips_lie_exactly_where_the_index_says() {
    let words = [("tones", TONES_OGG), ("again", TONES_OGG)];
    let index = "word\tclip_name\tsplit\tlen_samples\n\
                 tones\ta_nohash_0.wav\ttraining\t4001\n\tb_nohash_0.wav\tvalidation\t5002\n\
                 \tc_nohash_0.wav\ttesting\t2997\nagain\td_nohash_0.wav\ttraining\t100\n";
    let source = Source::Embedded(Embedded { words: &words, index });
    let config =
        DataConfig { length: 5_002, split: SplitRule::Official, cache: CacheMode::Off, ..DataConfig::default() };
    let data = Dataset::open(&source, &config, QUIET).unwrap();
    assert_eq!(data.classes(), ["again", "tones"]);
    assert_eq!(data.counts(), [[1, 0, 0], [1, 1, 1]]);
    for (clip, hz, len) in [(0, 400.0, 100), (1, 400.0, 4_001), (2, 1_600.0, 5_002), (3, 3_000.0, 2_997)] {
        let (mut error, mut energy) = (0.0, 0.0);
        for i in 0..len {
            let x = 16_000.0 * (std::f64::consts::TAU * hz * i as f64 / 16_000.0).sin();
            error += (x - f64::from(data.samples(clip).as_i16().unwrap()[i])).powi(2);
            energy += x * x;
        }
        // One sample of displacement would leave an error of at least (2 pi 400 / 16000)^2 = 0.025 of the energy.
        assert!(error < 0.02 * energy, "{}: {}", data.clips()[clip].name, error / energy);
        assert!(data.samples(clip).as_i16().unwrap()[len..].iter().all(|&v| v == 0));
    }
    for (wrong, says) in [
        ("tones\ta\ttraining", "line 1"),
        ("nobody\ta\ttraining\t1", "no sound for `nobody`"),
        ("\ta\ttraining\t1", "no sound for ``"),
        ("tones\ta\tlearning\t1", "`learning` is no split"),
        ("tones\ta\ttraining\t-1", "`-1` is no number of samples"),
        ("tones\ta\ttraining\t12001", "ends at sample 12000"),
    ] {
        let source = Source::Embedded(Embedded { words: &words, index: wrong });
        let error = Dataset::open(&source, &config, QUIET).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// `good` with up to six bytes changed, mostly in the header, where the lengths are; every fifth file is also cut.
fn mutated(good: &[u8], which: u64, round: u64) -> Vec<u8> {
    let key = Key::new(which, Stream::Case).with(round);
    let mut bytes = good.to_vec();
    let reach = if round.is_multiple_of(3) { bytes.len() } else { bytes.len().min(80) } as u64;
    for i in 0..1 + key.below(0, 6) {
        bytes[key.below(10 + i, reach) as usize] = match key.below(20 + i, 4) {
            0 => 0,
            1 => 0xFF,
            _ => key.bits(30 + i) as u8,
        };
    }
    if key.below(40, 5) == 0 {
        bytes.truncate(key.below(41, bytes.len() as u64) as usize);
    }
    correct_ogg_checksums(&mut bytes);
    bytes
}

#[test]
fn case_45_a_panic_inside_a_decoder_is_a_fault_of_the_clip() {
    for round in [1_134, 1_794, 1_854] {
        let fault = read(&mutated(TONES_OGG, 6, round)).unwrap_err();
        assert_eq!(fault, ClipFault::Damaged { reason: "the decoder failed".into() });
    }
}

#[test]
fn mutated_files_never_panic() {
    let float = Wav { code: Code::ExtensibleFloat, channels: 2, rate_hz: 44_100 }.file(&sine(100.0, 44_100, 400));
    let law = Wav { code: Code::ALaw, ..PLAIN }.file(&sine(100.0, 16_000, 400));
    let listed = riff(&[(b"LIST", b"INFOabc"), (b"fmt ", &PLAIN.fmt()), (b"data", &[1; 600])]);
    let seeds: [(&str, &[u8], u64); 7] = [
        ("16 bit", &wav16(&noise(1, 300)), 4_000),
        ("float", &float, 4_000),
        ("A-law", &law, 4_000),
        ("LIST", &listed, 4_000),
        ("FLAC", NOISE_FLAC, 2_000),
        ("FLAC, two channels", STEREO_FLAC, 2_000),
        ("Ogg Vorbis", TONES_OGG, 2_000),
    ];
    for (which, (name, good, rounds)) in seeds.into_iter().enumerate() {
        let mut refused = 0;
        for round in 0..rounds {
            let bytes = mutated(good, which as u64, round);
            for format in [MONO, Format { rate_hz: 8_000, channels: 2 }] {
                match read_clip(&bytes, name, format) {
                    Ok(clip) => assert_eq!(clip.samples.len() % format.channels as usize, 0),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > rounds / 4, "{name}: only {refused} refused");
    }
}

#[test]
fn the_split_is_tensorflows() {
    // Clips of Google Speech Commands with the split that TensorFlow gives them.
    for (clip, split) in [
        ("down/37dca74f_nohash_3.wav", "testing"),
        ("dog/68dd409e_nohash_1.wav", "testing"),
        ("four/63f7a489_nohash_0.wav", "testing"),
        ("one/f3cee168_nohash_0.wav", "validation"),
        ("zero/dd086776_nohash_2.wav", "validation"),
        ("eight/324210dd_nohash_0.wav", "training"),
        ("nine/4b25f620_nohash_0.wav", "training"),
        ("six/6cb6eee7_nohash_1.wav", "training"),
    ] {
        assert_eq!(which_set(&clip.into()).name(), split, "{clip}");
    }
}

#[test]
fn case_05_the_part_of_a_long_clip_that_is_used_can_be_chosen() {
    let temp = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut long = vec![0; 1_500];
    long[900..1_300].copy_from_slice(&noise(1, 400));
    put(temp.path(), "bed", "a_nohash_0.wav", &wav16(&long));
    put(temp.path(), "bed", "b_nohash_0.wav", &wav16(&noise(2, 400)));
    for (crop, start) in [(Crop::Start, 0), (Crop::Center, 500), (Crop::Loudest, 800)] {
        // Each crop has a cache of its own.
        for _ in 0..2 {
            let config = DataConfig { crop, ..config(CacheMode::Folder(cache.path().into())) };
            let data = open(temp.path(), &config).unwrap();
            assert_eq!(data.samples(0), Samples::I16(&long[start..start + 500]), "{crop}");
            let clip = &data.clips()[0];
            assert_eq!((clip.len_samples, clip.start_sample), (1_500, start as u64));
            assert_eq!(clip.peak, long[start..start + 500].iter().map(|v| v.unsigned_abs()).max().unwrap(), "{crop}");
            assert_eq!(data.samples(1).as_i16().unwrap()[..400], noise(2, 400));
        }
    }
    let start = Audit::of(&open(temp.path(), &config(CacheMode::Off)).unwrap());
    assert!(start.findings.iter().any(|f| f.kind == FindingKind::Silent), "the part that is used is silent");
}

#[test]
fn case_15_a_clip_of_equal_name_size_and_time_is_noticed() {
    let temp = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let path = temp.path().join("bed").join("a_nohash_0.wav");
    put(temp.path(), "bed", "a_nohash_0.wav", &wav16(&noise(1, 500)));
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let config = config(CacheMode::Folder(cache.path().into()));
    let mut fingerprints = Vec::new();
    for seed in 1..4 {
        let copy = temp.path().join("copy");
        for replaced_by_rename in [false, true] {
            let target = if replaced_by_rename { &copy } else { &path };
            std::fs::write(target, wav16(&noise(seed, 500))).unwrap();
            std::fs::File::options().write(true).open(target).unwrap().set_modified(modified).unwrap();
            if replaced_by_rename {
                std::fs::rename(&copy, &path).unwrap();
            }
            let data = open(temp.path(), &config).unwrap();
            assert_eq!(data.samples(0), Samples::I16(&noise(seed, 500)), "replaced by rename: {replaced_by_rename}");
            fingerprints.push(data.clips()[0].fingerprint.clone());
        }
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 3, "equal samples have equal fingerprints, and only they");
}

#[test]
fn case_44_waiting_for_the_cache_is_reported_with_the_file_and_can_be_interrupted() {
    let temp = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    small_set(temp.path());
    let source = Source::open(temp.path()).unwrap();
    let config = config(CacheMode::Folder(cache.path().into()));
    Dataset::open(&source, &config, QUIET).unwrap();
    let lock = std::fs::read_dir(cache.path()).unwrap().map(|e| e.unwrap().path());
    let lock = lock.into_iter().find(|p| p.extension().is_some_and(|e| e == "lock")).unwrap();
    std::fs::remove_file(lock.with_extension("cache")).unwrap();
    let other = std::fs::File::open(&lock).unwrap();
    other.lock().unwrap();
    let waited_for = std::sync::Mutex::new(None);
    let result = Dataset::open(&source, &config, &|stage, _, _| match stage {
        Stage::Waiting { lock } => {
            *waited_for.lock().unwrap() = Some(lock);
            std::ops::ControlFlow::Break(())
        }
        _ => std::ops::ControlFlow::Continue(()),
    });
    assert!(matches!(result, Err(DataError::Interrupted)));
    assert_eq!(waited_for.into_inner().unwrap(), Some(lock));
}

#[test]
fn the_audit_finds_everything_that_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let put = |file: &str, bytes: &[u8]| put(temp.path(), "bed", file, bytes);
    let good = noise(1, 500);
    put("good_nohash_0.wav", &wav16(&good));
    put("copy_nohash_0.wav", &wav16(&good));
    put("text_nohash_0.wav", b"text");
    put("void_nohash_0.wav", b"");
    put("mute_nohash_0.wav", &wav16(&[9; 500]));
    put("brief_nohash_0.wav", &wav16(&good[..499]));
    put("slow_nohash_0.wav", &Wav { rate_hz: 8_000, ..PLAIN }.file(&sine(300.0, 8_000, 250)));
    let mut loud = noise(2, 500);
    loud[100..104].fill(i16::MAX);
    put("loud_nohash_0.wav", &wav16(&loud));
    loud[100..104].copy_from_slice(&[i16::MAX, i16::MIN, 5, i16::MAX]); // touches full scale, no more
    put("near_nohash_0.wav", &wav16(&loud));
    let audit = Audit::of(&open(temp.path(), &config(CacheMode::Off)).unwrap());
    let found: Vec<(FindingKind, &str)> = audit
        .findings
        .iter()
        // The others are of classes and splits.
        .filter_map(|f| Some((f.kind, f.subject.as_str()?.split(['/', '_']).nth(1)?)))
        .collect();
    let expected = [
        (FindingKind::Unreadable, "text"),
        (FindingKind::Empty, "void"),
        (FindingKind::WrongRate, "slow"),
        (FindingKind::TooShort, "brief"),
        (FindingKind::Silent, "mute"),
        (FindingKind::Clipped, "loud"),
        (FindingKind::Duplicate, "good"),
    ];
    assert_eq!(found, expected);
    assert_eq!((audit.clips, audit.speakers, audit.classes[0].skipped), (7, 7, 2));
    let json = serde_json::to_string(&audit).unwrap();
    assert_eq!(serde_json::from_str::<Audit>(&json).unwrap(), audit);
}
