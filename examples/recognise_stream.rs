//! Recognises words in a stream of sound: 16-bit little-endian samples of one channel on standard input, at 16 kHz or the rate that is given.
//!
//! `arecord -f S16_LE -r 48000 -t raw | cargo run --release --example recognise_stream -- runs/NAME 48000` takes a run or weight file of `stapes train`. The smallest build
//! that contains all of this is `cargo build --release --no-default-features --features listen --example recognise_stream`.

use stapes::Recogniser;
use std::error::Error;
use std::io::Read;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(run) = arguments.next() else {
        eprintln!("usage: recognise_stream RUN|FILE.safetensors [RATE]");
        return Ok(());
    };
    let rate_hz = arguments.next().map_or(Ok(16_000), |rate| rate.parse())?;
    let recogniser = Recogniser::load(Path::new(&run))?;
    let mut stream = recogniser.stream(rate_hz)?;
    let (mut input, mut bytes, mut filled) = (std::io::stdin().lock(), [0; 3200], 0);
    loop {
        // A pipe may give half a sample.
        let got = input.read(&mut bytes[filled..])?;
        if got == 0 {
            break;
        }
        filled += got;
        let whole = filled / 2 * 2;
        let samples: Vec<f32> =
            bytes[..whole].chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0).collect();
        bytes.copy_within(whole..filled, 0);
        filled -= whole;
        for event in stream.push(&samples)? {
            println!("{:.2} s: {} ({:.3})", event.start, event.word, event.probability);
        }
    }
    for event in stream.finish()? {
        println!("{:.2} s: {} ({:.3})", event.start, event.word, event.probability);
    }
    Ok(())
}
