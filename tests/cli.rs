//! The program, end to end: trained, evaluated, asked, interrupted, resumed, and given every kind of bad input.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use std::fs;
use std::path::Path;

#[test]
fn every_command_explains_itself() {
    let top = stapes().arg("--help").output().unwrap();
    let top = String::from_utf8(top.stdout).unwrap();
    let commands =
        ["train", "eval", "predict", "models", "data", "gradcheck", "bench", "devices", "completions", "man"];
    for command in commands {
        assert!(top.contains(&format!("\n  {command} ")), "{command} is not listed:\n{top}");
        let help = stapes().args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("Usage:") && help.contains("Examples:\n"), "{help}");
    }
    stapes().arg("--version").assert().success().stdout(contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_exits_2() {
    for (arguments, sentence) in [
        (&["trane"][..], "unrecognized subcommand"),
        (&["train", "--epochz", "3"], "--epochs"),
        (&["train", "--set", "epoch=3"], "there is no setting `epoch`; did you mean `epochs`?"),
        (&["train", "--set", "epochs"], "--set takes KEY=VALUE, and `epochs` has no `=`"),
        (&["train", "--epochs", "0"], "epochs must be a whole number between 1 and 100000, got 0"),
        (&["train", "--lr", "fast"], "lr must be between 0.000000001 and 1000, got `fast`"),
        (&["train", "--variant", "nb"], "possible values: do, bn, do+bn"),
        (&["train", "--conv", "quick"], "possible values: direct, fast, auto"),
        (&["train", "--set", "conv=quick"], "conv must be direct, fast or auto, got `quick`"),
        (&["train", "--resume", "x", "--conv", "fast"], "--conv cannot be given with --resume"),
        (&["models", "vgg64-16", "--conv", "fast"], "--plan"),
        (&["bench", "custom32-9a"], "there is no network `custom32-9a`"),
        (&["bench", "--batch", "0"], "0 is not in 1..="),
        (&["bench", "--conv", "quick"], "possible values: direct, fast, auto"),
        (&["train", "--model", "custom32-9a"], "custom32-8"),
        (&["train", "--name", "../x"], "is no name for a run"),
        (&["train", "--resume", "x", "--batch", "4"], "--batch cannot be given with --resume"),
        (&["train", "--threads", "0"], "0 is not in 1..=1024"),
        (&["predict"], "required"),
        (&["predict", "x", "-", "-"], "standard input can be read only once"),
        (&["models", "--batch", "3"], "--plan"),
        (
            &["models", "--classes", "yes,no"],
            "`yes,no` is no number of classes; this command takes their number, such as 12",
        ),
        (&["bench", "--classes", "0"], "`0` is no number of classes"),
        (
            &["predict", "x", "x.wav", "--model", "vgg64-16"],
            "--classes is missing; a weight file that names no network needs",
        ),
        (&["predict", "x", "x.wav", "--classes", "yes,no"], "--model is missing"),
    ] {
        stapes().args(arguments).assert().code(2).stdout("").stderr(contains(sentence));
    }
    let wrong = stapes().args(["models"]).env("STAPES_ISA", "sse9").assert().code(2);
    // No option changes a variable, so that help is not pointed to.
    wrong.stderr(contains("it has scalar, wide").and(contains("--help").not()));
    stapes().args(["train", "--device", "cuda:x"]).assert().code(2).stderr(contains("take auto, cpu, cuda"));
}

/// A name is taken for a path; where there is a run or a network file of this name, the error says so.
#[test]
fn a_name_in_place_of_a_path_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let meant = dir.path().join("runs/lamps");
    fs::create_dir_all(&meant).unwrap();
    fs::write(meant.join("config.toml"), "").unwrap();
    fs::copy(tiny(), dir.path().join("m1.toml")).unwrap();
    for (arguments, sentence) in [
        (
            &["train", "--resume", "lamps"][..],
            "lamps is not a run folder: it has no config.toml; did you mean runs/lamps?",
        ),
        (&["predict", "lamps", "x.wav"], "lamps is not a run folder: it has no config.toml; did you mean runs/lamps?"),
        (&["predict", "lamp", "x.wav"], "lamp"),
    ] {
        stapes().args(arguments).current_dir(dir.path()).assert().code(1).stderr(contains(sentence));
    }
    let sentence = "there is no network `m1`, did you mean `m1.toml`; `stapes models` lists them";
    stapes().args(["models", "m1"]).current_dir(dir.path()).assert().code(2).stderr(contains(sentence));
    stapes().args(["models", "m1.toml"]).current_dir(dir.path()).assert().success();
}

#[test]
fn a_run_folder_needs_no_network() {
    let run = trained();
    let sentence = "is a run folder, which knows its network; --model, --variant and --classes go with a weight file";
    for arguments in [&["--model", "vgg64-16"][..], &["--classes", "yes,no"], &["--variant", "bn"]] {
        let refused = stapes().arg("predict").arg(&run).arg(clip("bed")).args(arguments).assert().code(2);
        refused.stdout("").stderr(contains(sentence));
    }
    let sentence =
        "is a run folder, and a run cannot be made within another one; give a folder outside of it with --runs";
    train(&run, "inner").assert().code(1).stderr(contains(sentence));
    assert!(!run.join("inner").exists());
}

#[test]
fn zeros_wider_than_a_kernel_are_as_good_as_any() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wide.toml");
    for norm in [false, true] {
        let text = format!(
            "name = 'wide'\nbatch_norm = {norm}\ninput = {{ length = 200, channels = 1, sample_rate = 8000 }}\n\
             head = {{ pool = 'average' }}\nblock = [{{ conv = 4, kernel = 5, padding = [9, 7], pool = 3 }}, \
             {{ conv = 5, kernel = 3, padding = [3, 0], pool = 3 }}]"
        );
        fs::write(&file, text).unwrap();
        stapes().args(["gradcheck", "--device", "cpu"]).arg(&file).assert().success();
    }
}

#[test]
fn a_run_is_trained_evaluated_and_asked() {
    let run = trained();
    for file in [
        "config.toml",
        "events.out.tfevents.0.stapes",
        "metrics.jsonl",
        "best.safetensors",
        "last.safetensors",
        "classes.txt",
        "split.tsv",
        "eval-test.json",
        "confusion-test.csv",
    ] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    assert_eq!(fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count(), 2);
    assert_eq!(fs::read_to_string(run.join("classes.txt")).unwrap(), "bed\ncat\none\nsix\n");

    // The evaluation at the end and `eval` agree on the listed clips; `eval` also lists what is not used.
    let before = fs::read_to_string(run.join("eval-test.json")).unwrap();
    let mut told = json(stapes().args(["eval", "--json"]).arg(&run));
    ["skipped", "unused"].iter().for_each(|key| drop(told.as_object_mut().unwrap().remove(*key)));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&before).unwrap(), told);
    let listed = fs::read_to_string(run.join("split.tsv")).unwrap().matches("\ttesting\t").count() as u64;
    assert_eq!(told["clips"], listed);
    let text = stapes().args(["eval", "--split", "validation", "--weights", "last"]).arg(&run).assert().success();
    text.stdout(
        contains("on the validation clips").and(contains("confusion matrix (rows: label, columns: predicted)")),
    );
    assert!(run.join("confusion-validation.csv").is_file());

    // One line a file, in order.
    let asked = ["bed", "one", "six"].map(clip);
    let output = stapes().arg("predict").arg(&run).args(&asked).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 3);
    for (line, asked) in lines.lines().zip(&asked) {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns[0], asked.to_str().unwrap());
        assert!(["bed", "cat", "one", "six"].contains(&columns[1]), "{line}");
        assert!((0.25..=1.0).contains(&columns[2].parse::<f64>().unwrap()), "{line}");
    }
    // Standard input gives the same answer, and JSON the same numbers.
    let piped = stapes().args(["predict", "--top", "4"]).arg(&run).arg("-").pipe_stdin(&asked[1]).unwrap().assert();
    let answer = lines.lines().nth(1).unwrap().split_once('\t').unwrap().1;
    let four_pairs = predicate::function(|text: &str| text.trim_end().split('\t').count() == 9);
    piped.success().stdout(contains(answer).and(four_pairs));
    let object = json(stapes().args(["predict", "--json", "--top", "4"]).arg(&run).arg(&asked[1]));
    let sum: f64 = object["top"].as_array().unwrap().iter().map(|g| g["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9);
}

#[test]
fn results_depend_on_nothing_but_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    let mut hashes = Vec::new();
    for (name, threads) in [("one", "1"), ("two", "2"), ("three", "3"), ("again", "2")] {
        train(dir.path(), name).args(["--epochs", "1", "--threads", threads]).assert().success();
        hashes.push(fs::read(dir.path().join(name).join("last.safetensors")).unwrap());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "threads or chance change the weights");
    train(dir.path(), "seed").args(["--epochs", "1", "--seed", "2"]).assert().success();
    assert_ne!(fs::read(dir.path().join("seed/last.safetensors")).unwrap(), hashes[0]);
    // A config.toml repeats its run.
    let config = dir.path().join("one/config.toml");
    stapes()
        .args(["train", "--name", "repeated", "--runs"])
        .arg(dir.path())
        .arg("--config")
        .arg(config)
        .assert()
        .success();
    assert_eq!(fs::read(dir.path().join("repeated/last.safetensors")).unwrap(), hashes[0]);
}

#[test]
fn an_interrupted_run_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    // More epochs than anybody waits for, so that the interrupt always comes in the middle.
    let mut stopped = spawn(train(dir.path(), "stopped").args(["--epochs", "100000"]));
    let said = read_until(&mut stopped, "epoch      2/100000");
    assert!(said.contains("folder   "), "{said}");
    // Twice at once, as some senders do, is one request.
    interrupt(&stopped);
    interrupt(&stopped);
    let end = stopped.wait_with_output().unwrap();
    let said = String::from_utf8(end.stderr).unwrap();
    assert_eq!(end.status.code(), Some(130), "{said}");
    let program = assert_cmd::cargo::cargo_bin!("stapes");
    assert!(said.contains("; everything is saved\nnext: "), "{said}");
    assert!(said.contains(program.to_str().unwrap()) && said.contains(" train --resume"), "{said}");
    assert!(end.stdout.is_empty());
    let run = dir.path().join("stopped");
    assert!(!run.join("eval-test.json").exists());

    let epochs = |run: &Path| fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count();
    let goal = (epochs(&run) + 2).to_string();
    stapes().args(["train", "--epochs", &goal, "--resume"]).arg(&run).assert().success();
    train(dir.path(), "whole").args(["--epochs", &goal]).assert().success();
    for file in ["last.safetensors", "best.safetensors", "eval-test.json", "split.tsv", "config.toml"] {
        let [whole, stopped] = ["whole", "stopped"].map(|run| fs::read(dir.path().join(run).join(file)).unwrap());
        assert!(whole == stopped, "{file} differs");
    }

    // Finished: said so, and more epochs can be asked for.
    let again = stapes().args(["train", "--resume"]).arg(&run).assert().success();
    again.stderr(contains(format!("is finished: all {goal} epochs are done")));
    let more = (epochs(&run) + 1).to_string();
    stapes().args(["train", "--epochs", &more, "--resume"]).arg(&run).assert().success();
    assert_eq!(epochs(&run).to_string(), more);
    assert!(fs::read_to_string(run.join("config.toml")).unwrap().contains(&format!("epochs = {more}\n")));
}

#[test]
fn a_run_is_not_overwritten_unasked() {
    let run = trained();
    let runs = run.parent().unwrap();
    let before = fs::read(run.join("last.safetensors")).unwrap();
    train(runs, "tiny").assert().code(1).stderr(contains("exists; give another --name, or --force"));
    assert_eq!(fs::read(run.join("last.safetensors")).unwrap(), before);
    // A name is found where none is given.
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        train_unnamed(dir.path()).args(["--epochs", "1", "-q"]).assert().success().stderr("");
    }
    let mut names: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 2);
    assert!(names[0].starts_with("tiny-do-20") && names[1] == format!("{}-2", names[0]), "{names:?}");
    train(dir.path(), &names[0]).args(["--epochs", "1", "--force"]).assert().success();
}

#[test]
fn json_is_whole_and_numbers_agree() {
    let models = json(stapes().args(["models", "--json"]));
    let models = models.as_array().unwrap();
    let of_study = models.iter().filter(|m| !m["study"].is_null()).count();
    assert_eq!((of_study, models.last().unwrap()["name"].as_str()), (77, Some("recommended-m")));
    let custom = models.iter().find(|m| m["name"] == "custom32-8").unwrap();
    assert_eq!((custom["params"].as_u64(), custom["macs"].is_u64()), (Some(94_768), true));
    let one = json(stapes().args(["models", "custom32-8", "--json"]));
    let sum = |key: &str| one["layers"].as_array().unwrap().iter().map(|l| l[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((Some(sum("params")), Some(sum("macs"))), (custom["params"].as_u64(), custom["macs"].as_u64()));
    let plan = json(stapes().args(["models", "custom32-8", "--plan", "infer", "--batch", "4", "--json"]));
    assert_eq!(plan["macs"], custom["macs"]);
    let wide = |args: &[&str]| stapes().env("COLUMNS", "200").arg("models").args(args).assert().success();
    let plan = wide(&["custom32-8", "--plan", "--variant", "do+bn"]);
    plan.stdout(contains("merge").and(contains("backward")).and(contains("memory with")));
    let plan = wide(&["custom32-8", "--plan"]);
    let order = "\norder: depth first, each clip passes through all steps before the next clip\n";
    plan.stdout(contains(order).and(contains(", sparse")));
    let plan = wide(&["baseline", "--plan"]);
    plan.stdout(contains(" take all clips of a group of shards at once\n").and(contains("  groups  ")));
    let plan = json(stapes().args(["models", "custom32-8", "--plan", "--variant", "bn", "--conv", "direct", "--json"]));
    assert_eq!((plan["order"].as_str(), plan["merges"].as_array().unwrap().len()), (Some("depth first"), 16));
    let steps = plan["steps"].as_array().unwrap();
    for step in steps {
        let merges = plan["merges"].as_array().unwrap().contains(&step["step"]);
        assert_eq!(step["runs"] == "merge", merges, "{step}");
        let expected = match (step["op"].as_str(), step["pass"].as_str(), step["node"].as_str()) {
            (Some("conv1d"), Some("backward"), Some("conv1")) => "direct",
            (Some("conv1d"), Some("backward"), _) => "direct, direct",
            (Some("conv1d"), ..) => "direct",
            _ => "",
        };
        assert_eq!(step["algorithm"], expected, "{step}");
    }

    let audit = json(stapes().args(["data", "--json"]).arg(clips()));
    assert_eq!((audit["clips"].as_u64(), audit["classes"].as_array().unwrap().len()), (Some(64), 16));
    assert_eq!(json(stapes().args(["data", "--json", "--classes", "bed"]))["clips"], 326);
    assert!(json(stapes().args(["devices", "--json"]))["cpu"]["instruction_sets"].as_array().unwrap().len() >= 2);
    stapes().args(["devices", "--knobs"]).assert().success().stdout(contains("STAPES_ISA"));

    let dir = tempfile::tempdir().unwrap();
    let report = json(train(dir.path(), "json").args(["--epochs", "1", "--json"]));
    assert_eq!(report["examples"].as_array().unwrap().len(), 3);
    let metrics = fs::read_to_string(dir.path().join("json/metrics.jsonl")).unwrap();
    assert!(metrics.contains(report["weights"].as_str().unwrap()), "the hash is that of the last epoch");
}

#[test]
fn the_way_to_compute_is_chosen_by_one_setting() {
    let ops = |conv: &[&str]| -> Vec<String> {
        let plan = json(stapes().args(["models", "custom32-8", "--plan", "infer", "--json"]).args(conv));
        plan["steps"].as_array().unwrap().iter().map(|step| step["op"].as_str().unwrap().to_string()).collect()
    };
    let (direct, fast) = (ops(&["--conv", "direct"]), ops(&["--conv", "fast"]));
    assert!(direct.contains(&"relu".into()) && !direct.contains(&"conv_block".into()), "{direct:?}");
    assert!(fast.contains(&"conv_block".into()) && fast.len() < direct.len(), "{fast:?}");
    assert_eq!(ops(&[]), ops(&["--conv", "auto"]));

    let dir = tempfile::tempdir().unwrap();
    let runs = [("flag", "--conv=direct", "direct"), ("set", "--set=conv=fast", "fast"), ("default", "-q", "auto")];
    for (name, option, conv) in runs {
        train(dir.path(), name).args(["--epochs", "1", option]).assert().success();
        let config = fs::read_to_string(dir.path().join(name).join("config.toml")).unwrap();
        assert!(config.contains(&format!("\nconv = \"{conv}\"\n")), "{config}");
        stapes().args(["eval", "--conv", "auto"]).arg(dir.path().join(name)).assert().success();
        let predict = stapes().args(["predict", "--conv", "fast"]).arg(dir.path().join(name)).arg(clip("bed")).assert();
        predict.success().stdout(contains("\t0."));
    }
}

#[test]
fn a_network_is_measured() {
    let bench = || {
        let mut command = stapes();
        command.args(["bench", "--quick", "--batch", "3", "--classes", "4", "--threads", "2"]).arg(tiny());
        command
    };
    let table = String::from_utf8(bench().output().unwrap().stdout).unwrap();
    for part in [
        "tiny with dropout: input of 16,000 samples at 16,000 Hz, mono; 4 classes\n2 threads, ",
        ": 2000 x 8 to 500 x 8\n",
        "conv2",
        "backward-data",
        "\nall layers",
        "\ntraining step of 3 clips: ",
        "\ninference of 1 clip: ",
        " % of peak\n",
    ] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    let told = json(bench().args(["--scaling", "--json"]));
    let predictions = told["predictions"].as_array().unwrap();
    let of = |key: &str| predictions.iter().map(|row| row[key].as_f64().unwrap_or(0.0)).collect::<Vec<_>>();
    assert_eq!(of("threads"), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
    assert!(of("seconds").windows(2).all(|pair| pair[1] <= pair[0]) && of("speedup")[6] <= 3.0, "3 clips: {told}");
    assert_eq!(
        of("measured_seconds").iter().filter(|&&seconds| seconds > 0.0).count(),
        2,
        "on 1 and 2 threads: {told}"
    );
    let kinds: Vec<&str> =
        told["kinds"].as_array().unwrap().iter().map(|kind| kind["name"].as_str().unwrap()).collect();
    assert!(["samples", "optimiser", "prepare"].iter().all(|name| kinds.contains(name)), "{kinds:?}");
    stapes()
        .args(["bench", "--scaling", "--batch", "1000000"])
        .arg(tiny())
        .assert()
        .code(1)
        .stderr(contains("give a smaller --batch"));
    let table = String::from_utf8(bench().arg("--scaling").output().unwrap().stdout).unwrap();
    assert!(table.contains("speed-up") && table.lines().all(|line| line.chars().count() <= 80), "{table}");

    let told = json(bench().args(["--conv", "direct", "--json"]).env("STAPES_ISA", "wide"));
    assert_eq!(
        (told["isa"].as_str(), told["conv"].as_str(), told["batch"].as_u64()),
        (Some("wide"), Some("direct"), Some(3))
    );
    let layers = told["layers"].as_array().unwrap();
    let names: Vec<&str> = layers.iter().map(|layer| layer["layer"].as_str().unwrap()).collect();
    let expected = "conv1 relu1 pool1 conv2 relu2 pool2 average dropout fc1 loss";
    assert_eq!(names.join(" "), expected);
    let passes: Vec<&serde_json::Value> = layers.iter().flat_map(|layer| layer["passes"].as_array().unwrap()).collect();
    for pass in &passes {
        assert!(pass["seconds"].as_f64().unwrap() > 0.0 && pass["error"].as_f64().unwrap() < 1e-5, "{pass}");
        assert!(
            pass["bytes"].as_u64().unwrap() > 0 && pass["gmacs_per_second"].is_f64() == (pass["macs"] != 0),
            "{pass}"
        );
    }
    let of_first: Vec<&str> =
        layers[0]["passes"].as_array().unwrap().iter().map(|p| p["pass"].as_str().unwrap()).collect();
    assert_eq!(of_first, ["forward", "backward-weight"], "nobody needs the gradient of the audio");
    let all = told["totals"].as_array().unwrap().last().unwrap();
    let macs = passes.iter().map(|pass| pass["macs"].as_u64().unwrap()).sum::<u64>();
    assert_eq!((all["pass"].as_str(), all["macs"].as_u64()), (Some("all"), Some(macs)));
    assert_eq!((told["step"]["clips"].as_u64(), told["recognise"]["clips"].as_u64()), (Some(3), Some(1)));

    let large = stapes().args(["bench", "custom32-8", "--batch", "1000000"]).assert().code(1);
    large.stderr(contains("a training step of 1000000 clips would take ").and(contains("give a smaller --batch")));
    stapes().args(["bench", "gone.toml"]).assert().code(1).stderr(contains("gone.toml"));
}

#[test]
fn a_run_on_all_words_fills_one_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let mut train = stapes();
    train.args(["train", "--batch", "2", "--epochs", "1", "--name", "all", "--data"]).arg(clips());
    train.arg("--model").arg(tiny()).arg("--runs").arg(dir.path()).env("STAPES_CACHE", &cache).assert().success();
    let config = fs::read_to_string(dir.path().join("all/config.toml")).unwrap();
    assert!(config.contains(r#""two", "zero"]"#), "the words are in the configuration: {config}");
    // Now the words are named, and they are the same.
    stapes().arg("eval").arg(dir.path().join("all")).env("STAPES_CACHE", &cache).assert().success();
    let caches = fs::read_dir(&cache).unwrap().filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "cache");
    assert_eq!(caches.count(), 1);
}

#[test]
fn gradients_of_a_network_are_checked() {
    let checked = stapes().args(["gradcheck", "--elements", "2"]).arg(tiny()).args(["--length", "1000"]).assert();
    let legend = "error: the largest difference between gradient and central difference, relative to the largest";
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").contains(legend);
    let output = contains("conv1.weight").and(contains("  central difference\n")).and(predicate::function(one_line));
    checked.success().stdout(output).stderr(contains("every gradient agrees"));
    let short = stapes().args(["gradcheck", "--length", "3"]).arg(tiny()).assert();
    short.code(1).stderr(contains("tiny"));
}

#[test]
fn a_state_dict_of_pytorch_is_recognised_with() {
    let run = trained();
    let bytes = fs::read(run.join("best.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("torch.safetensors");
    // What PyTorch saves has no metadata of ours.
    fs::write(&file, safetensors::serialize(tensors.tensors(), None).unwrap()).unwrap();
    let clip = clip("six");
    stapes()
        .arg("predict")
        .arg(&file)
        .arg(&clip)
        .assert()
        .code(1)
        .stderr(contains("`stapes import` with --model and --classes"));
    let own = stapes().arg("predict").arg(&run).arg(&clip).output().unwrap().stdout;
    let args = ["--classes", "bed,cat,one,six", "--model"];
    let torch = stapes().arg("predict").arg(&file).arg(&clip).args(args).arg(tiny()).assert().success();
    torch.stdout(String::from_utf8(own).unwrap());
    let args = ["--classes", "bed,cat", "--model"];
    let other = stapes().arg("predict").arg(&file).arg(&clip).args(args).arg(tiny()).assert().code(1);
    other.stderr(contains("holds the weights of another network").and(contains("fc1.weight")));
}
