//! `--int8` of `stapes eval` and `stapes predict`.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use stapes::data::{DataConfig, Dataset, Source, Split};
use stapes::export::integer_network;
use stapes::simd::Isa;
use stapes::train::{Bundle, Prediction, Which};
use std::ops::ControlFlow;

/// The recordings of the run of the tests.
fn recordings(bundle: &Bundle) -> Dataset {
    let reading = DataConfig { classes: Some(bundle.classes.clone()), ..DataConfig::default() };
    Dataset::open(&Source::open(&clips()).unwrap(), &reading, &|_, _, _| ControlFlow::Continue(())).unwrap()
}

#[test]
fn an_evaluation_in_integers_stands_beside_the_one_in_floating_point() {
    let run = trained();
    let plain = json(stapes().args(["eval", "--json", "--split", "training"]).arg(&run));
    assert!(plain.get("int8").is_none());
    let mut command = stapes();
    command.args(["eval", "--json", "--split", "training", "--int8", "--calibration-clips", "5"]).arg(&run);
    let both = json(&mut command);
    let int8 = &both["int8"];
    assert_eq!(both["accuracy"], plain["accuracy"]);
    assert_eq!((&int8["accuracy_f32"], &int8["clips"]), (&plain["accuracy"], &plain["clips"]));
    let number = |key: &str| int8[key].as_f64().unwrap();
    assert!((number("difference") - (number("accuracy") - number("accuracy_f32"))).abs() < 1e-12, "{int8}");
    assert!((0.0..=1.0).contains(&number("p")) && int8["interval"][0].as_f64() <= int8["interval"][1].as_f64());
    assert_eq!(int8["calibration_clips"], 5);
    let time = &int8["time"];
    assert!(["seconds", "seconds_f32", "ratio"].iter().all(|key| time[*key].as_f64().unwrap() > 0.0), "{int8}");
    // The accuracy is that of the library's network.
    let bundle = Bundle::open(&run, Which::Best).unwrap();
    let data = recordings(&bundle);
    let (network, _) = integer_network(&bundle, &data, 5).unwrap();
    let evaluation = network.evaluate(&data, Some(Split::Training), Isa::best()).unwrap();
    assert_eq!(number("accuracy"), evaluation.accuracy);
    let told = stapes().args(["eval", "--int8", "--split", "training"]).arg(&run).assert().success();
    told.stdout(predicate::function(|text: &str| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        text.contains(" int8 accuracy ")
            && text.contains("calibrated on 8 training clips;")
            && text.contains("ms for a clip on one thread")
    }));
    // Other recordings; the ranges are from the run's own.
    let other = json(stapes().args(["eval", "--json", "--int8"]).arg(&run).arg(clips()));
    assert_eq!(other["int8"]["clips"], other["clips"]);
}

#[test]
fn a_prediction_in_integers_is_that_of_the_reference() {
    let run = trained();
    let bundle = Bundle::open(&run, Which::Best).unwrap();
    let data = recordings(&bundle);
    let (network, clips_used) = integer_network(&bundle, &data, 256).unwrap();
    assert_eq!(clips_used, data.in_split(Split::Training).len());
    let mut input = vec![0.0; data.row_len()];
    for word in ["bed", "six"] {
        let file = clip(word);
        let name = format!("{word}/{}", file.file_name().unwrap().to_str().unwrap());
        let number = data.clips().iter().position(|clip| clip.name.to_string() == name).unwrap();
        data.write_input(number, &mut input);
        let expected = Prediction::of_logits(&network.logits(&input).unwrap());
        let line = json(stapes().args(["predict", "--json", "--int8"]).arg(&run).arg(&file));
        assert_eq!(line["class"], bundle.classes[expected.class].to_string());
        assert!((line["probability"].as_f64().unwrap() - expected.probability).abs() < 1e-12, "{line}");
    }
}

#[test]
fn what_does_not_go_with_integers_is_refused_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained();
    let weights = run.join("best.safetensors");
    let refused = |command: &mut assert_cmd::Command, code: i32, sentence: &str| {
        command.assert().code(code).stderr(contains(sentence));
    };
    let copy = copy_of_run(dir.path());
    refused(stapes().args(["eval", "--int8"]).arg(&run).arg(&copy), 2, "give one run");
    refused(stapes().args(["eval", "--int8", "--shifts", "3"]).arg(&run), 2, "leave --shifts out");
    refused(stapes().args(["eval", "--int8", "--device", "cuda"]).arg(&run), 2, "leave --device out");
    refused(
        stapes().args(["predict", "--int8", "--device", "cuda"]).arg(&run).arg(clip("bed")),
        2,
        "leave --device out",
    );
    refused(stapes().args(["eval", "--calibration-clips", "3"]).arg(&run), 2, "--int8");
    refused(stapes().args(["predict", "--int8"]).arg(&weights).arg(clip("bed")), 2, "give the folder of the run");
}
