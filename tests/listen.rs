//! Windows of a stream equal the network on each window by itself, and events do not depend on how a stream is cut into pieces.

use stapes::base::Name;
use stapes::listen::{Manifest, Recogniser, Sharing, Windows};
use stapes::nn::{self, Initialisation, Network, NetworkSpec, Variant};
use stapes::train::{Bundle, Predictor, Weights};
use std::sync::Arc;

/// Numbers that look random, in [-0.5, 0.5).
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

/// Initial weights, with running statistics of batch norm that are not 0 and 1.
fn weights(network: &Network) -> Weights {
    let mut weights = Weights::initial(&network.graph, Initialisation::default(), 7);
    for (i, s) in weights.state.iter_mut().enumerate() {
        *s = *s * 0.8 + 0.1 + (i % 7) as f32 * 0.01;
    }
    weights
}

fn study(name: &str, variant: Variant) -> NetworkSpec {
    nn::find(name).unwrap().spec(variant)
}

/// A network with everything that moves rows: strides, dilation, each kind of padding, overlapping and rounded-up pools, separable and residual blocks.
fn odd() -> NetworkSpec {
    let text = r#"
        name = "odd"
        batch_norm = true
        input = { length = 4000, channels = 1, sample_rate = 4000 }
        head = { pool = "average" }
        [[block]]
        conv = 8
        kernel = 9
        stride = 2
        pool = 3
        pool_stride = 2
        [[block]]
        conv = 8
        kernel = 5
        separable = true
        residual = true
        pool = 2
        pool_ceil = true
        [[block]]
        conv = 12
        kernel = 4
        dilation = 2
        padding = "valid"
        [[block]]
        conv = 12
        kernel = 3
        padding = [2, 0]
        pool = 3
        [[block]]
        conv = 16
        kernel = 3
    "#;
    NetworkSpec::parse(text, "odd.toml").unwrap()
}

/// The largest difference of a logit, relative to the largest logit, between the windows of a stream and the network on each of them.
fn largest_difference(spec: &NetworkSpec, hop: usize) -> (Sharing, f64) {
    let network = Network::build(spec, 5).unwrap();
    let weights = weights(&network);
    let sharing = Sharing::plan(&network, hop).unwrap();
    let stream = noise(network.spec.input.length * 2 + 777, 3);
    let mut offline = Predictor::builder(network.clone(), weights.clone()).build().unwrap();
    let mut windows = Windows::new(&network, &weights, sharing.clone()).unwrap();
    let (mut worst, mut largest, mut count) = (0f64, 0f64, 0u64);
    for piece in stream.chunks(1279) {
        windows.push(piece, &mut |number, logits| {
            assert_eq!(number, count);
            count += 1;
            offline.run(&stream[number as usize * sharing.hop..][..sharing.window]).unwrap();
            for (a, b) in logits.iter().zip(offline.logits(0)) {
                worst = worst.max(f64::from((a - b).abs()));
                largest = largest.max(f64::from(b.abs()));
            }
        });
    }
    assert_eq!(count as usize, (stream.len() - sharing.window) / sharing.hop + 1);
    (sharing, worst / largest.max(1.0))
}

#[test]
fn the_logits_of_a_window_are_those_of_the_network_on_it() {
    let cases = [
        (study("custom32-8", Variant::DoBn), 320),
        (study("custom32-8", Variant::Do), 500),
        (study("baseline", Variant::Do), 320),
        (study("steep32-4", Variant::Bn), 1600),
        (odd(), 80),
        (odd(), 33),
    ];
    for (spec, hop) in cases {
        let (sharing, difference) = largest_difference(&spec, hop);
        assert!(difference < 1e-5, "{} {difference} {sharing:?}", spec.name);
        if hop < 1600 {
            let network = Network::build(&spec, 5).unwrap();
            assert!(sharing.cut != network.audio, "{} shares something: {sharing:?}", spec.name);
        }
    }
}

/// A recogniser of an untrained network whose thresholds are low enough for events.
fn untrained(threshold: f64) -> Recogniser {
    let network = Network::build(&study("custom32-8", Variant::DoBn), 3).unwrap();
    let weights = weights(&network);
    let classes: Vec<Name> = ["a", "b", "c"].iter().map(|c| Name::from_bytes(c.as_bytes())).collect();
    let manifest = Manifest { threshold, ..Manifest::new(classes.clone(), 16_000) };
    let bundle = Bundle {
        network: Arc::new(network),
        weights,
        classes,
        standardisation: None,
        file: "untrained".into(),
        folder: None,
        config: None,
    };
    Recogniser::new(bundle, manifest).unwrap()
}

#[test]
fn events_do_not_depend_on_the_pieces() {
    let recogniser = untrained(0.34);
    let mut sound = vec![0.0; 50_000];
    for at in [4_000, 25_000, 42_000] {
        sound[at..at + 6_000].copy_from_slice(&noise(6_000, at as u64));
    }
    for rate in [16_000, 44_100, 8_000] {
        let of = |sizes: &[usize]| {
            let mut stream = recogniser.stream(rate).unwrap();
            let (mut events, mut at) = (Vec::new(), 0);
            for size in sizes.iter().cycle() {
                let end = (at + size).min(sound.len());
                events.extend(stream.push(&sound[at..end]).unwrap());
                at = end;
                if at == sound.len() {
                    break;
                }
            }
            events.extend(stream.finish().unwrap());
            events
        };
        let whole = of(&[usize::MAX / 2]);
        assert!(!whole.is_empty(), "{rate}");
        for sizes in [&[1, 2, 1279, 1281, 4096][..], &[320], &[17]] {
            let events = of(sizes);
            assert_eq!(events.len(), whole.len(), "{rate} {sizes:?}");
            for (a, b) in events.iter().zip(&whole) {
                assert_eq!(
                    (&a.word, a.start, a.end, &a.sound),
                    (&b.word, b.start, b.end, &b.sound),
                    "{rate} {sizes:?}"
                );
                assert!((a.probability - b.probability).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn a_recogniser_and_a_stream_can_be_used_in_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    let recogniser = untrained(0.5);
    is_send(&recogniser);
    is_send(&recogniser.stream(16_000).unwrap());
}

#[test]
fn a_clip_has_the_word_that_the_network_predicts() {
    let mut recogniser = untrained(0.5);
    let network = Network::build(&study("custom32-8", Variant::DoBn), 3).unwrap();
    let mut predictor = Predictor::builder(network.clone(), weights(&network)).build().unwrap();
    let clip = noise(16_000, 5);
    let ours = recogniser.recognise(&clip, 16_000).unwrap();
    let theirs = &predictor.predict(&clip).unwrap()[0];
    assert_eq!(ours.word, recogniser.manifest.words[theirs.class]);
    assert!((ours.probability - theirs.probability).abs() < 1e-6);
    // Short clips are filled up, sound of other rates is converted.
    assert!(recogniser.recognise(&clip[..100], 44_100).is_ok());
    assert!(recogniser.recognise(&[], 16_000).is_ok());
}

#[test]
fn a_stream_refuses_what_is_not_sound() {
    let recogniser = untrained(0.5);
    let mut stream = recogniser.stream(16_000).unwrap();
    assert!(stream.push(&[0.0, f32::NAN]).unwrap_err().to_string().contains("sample 1"));
    assert!(stream.push(&[0.0; 100]).is_ok());
    assert!(recogniser.stream(10).err().unwrap().to_string().contains("10 Hz"));
    assert!(stream.finish().unwrap().is_empty());
}
