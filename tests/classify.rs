//! `stapes classify`: five classifiers on the activations of a layer, beside the network, and everything that they cannot be fitted to.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use serde_json::Value;
use stapes::base::Name;
use stapes::data::{DataConfig, Dataset, Source, Split, which_set};
use stapes::nn::{Initialisation, Network, NetworkSpec};
use stapes::train::classify::{Activations, Classifier, Features};
use stapes::train::{FeatureLayer, Predictor, TrainError, Weights};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

fn classify(run: &Path, options: &[&str]) -> assert_cmd::Command {
    let mut command = stapes();
    command.arg("classify").arg(run).args(options);
    command
}

/// Fails with this code and one sentence on standard error that has all of these parts.
#[track_caller]
fn refused(command: &mut assert_cmd::Command, code: i32, parts: &[&str]) {
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    let errors: Vec<&str> = err.lines().filter(|line| line.starts_with("stapes: error: ")).collect();
    assert_eq!(errors.len(), 1, "{err}");
    parts.iter().for_each(|part| assert!(errors[0].contains(part), "`{part}` is not in: {err}"));
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn five_classifiers_stand_beside_the_network_and_do_not_depend_on_threads() {
    let run = trained();
    let told = json(&mut classify(&run, &["--json", "--threads", "1"]));
    assert_eq!(told, json(&mut classify(&run, &["--json", "--threads", "3"])));
    let evaluated = json(stapes().arg("eval").arg(&run).arg("--json"));
    let own = &told["own"]["test"];
    for key in ["clips", "correct", "accuracy", "interval"] {
        assert_eq!(own[key], evaluated[key], "the network's own {key}");
    }
    let clips: Vec<u64> = told["clips"].as_array().unwrap().iter().map(|clips| clips.as_u64().unwrap()).collect();
    assert_eq!((clips.len(), clips.iter().sum::<u64>()), (3, 16));
    let layer = &told["layers"][0];
    let of: Vec<&Value> = layer["classifiers"].as_array().unwrap().iter().collect();
    let names: Vec<&str> = of.iter().map(|of| of["classifier"].as_str().unwrap()).collect();
    assert_eq!(names, ["knn", "logistic", "svm", "lda", "forest"]);
    for of in of {
        // The setting is the best on the validation clips, the first of equal ones.
        let tried = of["tried"].as_array().unwrap();
        let best = tried.iter().map(|of| of["validation_accuracy"].as_f64().unwrap()).fold(0.0, f64::max);
        let first = tried.iter().find(|of| of["validation_accuracy"] == best).unwrap();
        assert_eq!((&of["setting"], &of["validation_accuracy"]), (&first["setting"], &first["validation_accuracy"]));
        let count = |key: &str| of["network"][key].as_u64().unwrap();
        assert_eq!(count("both") + count("only_second"), of["test"]["correct"].as_u64().unwrap());
        assert_eq!(count("both") + count("only_first"), own["correct"].as_u64().unwrap());
        assert_eq!(count("both") + count("only_first") + count("only_second") + count("neither"), clips[2]);
    }
    // Fewer training clips than the largest numbers of neighbours.
    let tried = layer["classifiers"][0]["tried"].as_array().unwrap();
    assert!(tried.iter().all(|of| of["setting"] != "k = 25") && tried.iter().any(|of| of["setting"] == "k = 1"));
}

#[test]
fn tables_are_written_and_fit_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (md, csv) = (dir.path().join("t.md"), dir.path().join("t.csv"));
    let some = ["--classifiers", "lda,knn", "--layer", "features,fc1", "--quiet"];
    for (width, path) in [("80", &md), ("40", &csv)] {
        let mut command = classify(&trained(), &some);
        let output = command.arg("--output").arg(path).env("COLUMNS", width).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("LDA") && text.contains("tested on"), "{text}");
        let most: usize = width.parse().unwrap();
        // A path is not broken.
        assert!(text.lines().filter(|line| !line.contains('/')).all(|line| line.chars().count() <= most), "{text}");
    }
    let md = fs::read_to_string(&md).unwrap();
    assert_eq!(md.lines().filter(|line| line.starts_with("| ")).count(), 1 + 2 * 3, "{md}");
    let csv = fs::read_to_string(&csv).unwrap();
    let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [14; 7], "{csv}");
    assert!(csv.contains(",network,,") && csv.contains(",lda,shrinkage = "), "{csv}");
}

#[test]
fn wrong_options_have_one_sentence() {
    let run = trained();
    refused(&mut classify(&run, &["--layer", "pool9"]), 1, &["has no layer `pool9` (did you mean `pool"]);
    refused(&mut classify(&run, &["--layer", "features,features"]), 2, &["twice"]);
    refused(
        &mut classify(&run, &["--layer", "conv1"]),
        1,
        &["`conv1` has 16000 numbers", "at most 2048", "later layer"],
    );
    refused(&mut classify(&run, &["--classifiers", "knn,lsa"]), 2, &["no such classifier (did you mean `lda`?)"]);
    refused(&mut classify(&run, &["--classifiers", "knn,knn"]), 2, &["knn twice"]);
    refused(&mut classify(&run, &["--output", "t.txt"]), 2, &["t.txt must end in .md or .csv"]);
    refused(&mut classify(&clips(), &[]), 1, &["is not a run folder"]);
}

/// A copy of the clips of two words that `keep` keeps.
fn folder_of(to: &Path, keep: impl Fn(&str, Split) -> bool) {
    for word in ["bed", "six"] {
        fs::create_dir_all(to.join(word)).unwrap();
        for entry in fs::read_dir(clips().join(word)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap();
            if keep(word, which_set(&Name::from(format!("{word}/{}", file.to_str().unwrap()).as_str()))) {
                fs::copy(&path, to.join(word).join(file)).unwrap();
            }
        }
    }
}

#[test]
fn a_run_without_validation_clips_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    folder_of(&data, |_, split| split != Split::Validation);
    let mut train = stapes();
    train.args(["train", "-q", "--recipe", "plain", "--batch", "2", "--epochs", "1", "--name", "run", "--model"]);
    train.arg(tiny()).arg("--data").arg(&data).arg("--runs").arg(dir.path()).assert().success();
    refused(&mut classify(&dir.path().join("run"), &[]), 1, &["has no validation clips", "all three"]);
}

/// The activations of a tiny network for a data set of two words.
fn activations(data: &Path, alter: impl Fn(&mut Weights)) -> Result<Activations, TrainError> {
    let spec = NetworkSpec::load(&tiny()).unwrap();
    let network = Network::build(&spec, 2).unwrap();
    let mut weights = Weights::initial(&network.graph, Initialisation::default(), 1);
    alter(&mut weights);
    let config = DataConfig { allow_empty_classes: true, ..DataConfig::default() };
    let data = Dataset::open(&Source::open(data).unwrap(), &config, &|_, _, _| ControlFlow::Continue(())).unwrap();
    let layer = FeatureLayer::find(&network, "features").unwrap();
    let mut predictor = Predictor::builder(&network, weights).batch(4).keep([layer.node]).build().unwrap();
    Activations::compute(&mut predictor, vec![layer], Arc::new(data))
}

#[test]
fn what_cannot_be_fitted_has_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let error = |activations: &Activations| Features::new(activations, 0).err().unwrap().to_string();
    let all = dir.path().join("all");
    folder_of(&all, |_, _| true);
    let overflow = activations(&all, |weights| weights.params.fill(1e30)).unwrap();
    let said = error(&overflow);
    assert!(said.contains(" for the clip bed/") && said.contains("classifiers need finite numbers"), "{said}");
    // The training clips are of one class.
    let one = dir.path().join("one");
    folder_of(&one, |word, split| word == "bed" || split != Split::Training);
    let said = error(&activations(&one, |_| ()).unwrap());
    assert!(said.contains("all training clips of ") && said.contains("are of the class `bed`"), "{said}");
    // Features without any difference between clips are no obstacle.
    let equal = activations(&all, |weights| weights.params.fill(0.0)).unwrap();
    for classifier in Classifier::ALL {
        let done = Features::new(&equal, 0).unwrap().classify(classifier, 1).unwrap();
        assert!((0.0..=1.0).contains(&done.test.accuracy), "{classifier}");
    }
}

#[test]
fn help_names_the_classifiers() {
    let help = stapes().args(["classify", "--help"]).assert().success();
    help.stdout(contains("linear discriminant analysis").and(contains("validation clips")));
}
