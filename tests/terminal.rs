//! Output on a terminal: no line exceeds its width, and the commands that are printed for typing work.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use std::process::Output;

/// The columns that a line takes; the tests print no wide characters.
fn columns(line: &str) -> usize {
    line.chars().count()
}

/// Runs `arguments` for a terminal of `width` columns and checks every line of both outputs.
fn fits(arguments: &[&str], width: usize) -> Output {
    let output = stapes().args(arguments).env("COLUMNS", width.to_string()).output().unwrap();
    for text in [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()) {
        // A path of the test's own folders is never broken, and a command is continued in the way of a shell.
        let too_wide =
            |line: &&str| columns(line) > width && !line.contains("stapes-tests-") && !line.contains("next: ");
        let wide: Vec<&str> = text.lines().filter(too_wide).collect();
        assert!(wide.is_empty(), "{width} columns: stapes {}\n{}", arguments.join(" "), wide.join("\n"));
    }
    output
}

#[test]
fn no_line_of_a_command_exceeds_the_terminal() {
    let (tiny, clips) = (tiny(), clips());
    let (tiny, clips) = (tiny.to_str().unwrap(), clips.to_str().unwrap());
    for width in [60, 80, 120] {
        for arguments in [
            &["--help"][..],
            &["models"],
            &["models", "custom32-8"],
            &["models", "baseline", "--variant", "do+bn", "--plan"],
            &["models", "custom128-9", "--variant", "do+bn", "--plan", "infer"],
            &["models", "custom32-8", "--plan", "--device", "cuda"],
            &["data", clips],
            &["devices"],
            &["devices", "--knobs"],
            &["train", "--set", "help"],
            &["gradcheck", tiny, "--length", "1000", "--elements", "1"],
            &["bench", tiny, "--quick", "--batch", "3", "--classes", "4"],
        ] {
            assert!(fits(arguments, width).status.success(), "{arguments:?}");
        }
    }
    for width in [60, 80] {
        for command in
            ["train", "eval", "predict", "models", "data", "gradcheck", "bench", "devices", "completions", "man"]
        {
            let output = fits(&[command, "--help"], width);
            assert!(output.status.success(), "{command}");
            examples_can_be_copied(&String::from_utf8(output.stdout).unwrap(), width);
        }
    }
}

/// Checks that a shell reads each example of a help text as one command, and that paragraphs fill their lines.
fn examples_can_be_copied(help: &str, width: usize) {
    let (_, text) = help.split_once("\nExamples:\n").unwrap();
    let (examples, paragraphs) = text.split_once("\n\n").unwrap_or((text, ""));
    let joined = examples.replace(" \\\n", " ");
    for line in joined.lines() {
        let (command, _) = line.split_once("# ").unwrap_or((line, ""));
        assert!(command.trim().is_empty() || command.contains("stapes "), "{line}\n{help}");
    }
    for paragraph in paragraphs.split("\n\n") {
        for (line, next) in paragraph.lines().zip(paragraph.lines().skip(1)) {
            let word = next.split_whitespace().next().unwrap_or_default();
            assert!(columns(line) + 1 + columns(word) > width, "a line ends early: {line}\n{help}");
        }
    }
}

#[test]
fn a_run_fits_the_terminal_and_its_last_line_works_as_typed() {
    let dir = tempfile::Builder::new().prefix("stapes-tests-").tempdir().unwrap();
    let (runs, tiny, clips) = (dir.path().join("runs"), tiny(), clips());
    for (name, data, width) in [("folder", clips.to_str().unwrap(), "80"), ("embedded", "embedded", "60")] {
        let mut train = stapes();
        train.args(["train", "--epochs", "2", "--batch", "4", "--classes", "bed,cat", "--name", name, "--data", data]);
        train.arg("--model").arg(&tiny).arg("--runs").arg(&runs).env("COLUMNS", width);
        let output = train.output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{err}");
        let own_path = |line: &str| line.contains("stapes-tests-") || line.contains("fixtures");
        let width: usize = width.parse().unwrap();
        for line in err.lines().chain(out.lines()).filter(|line| !own_path(line)) {
            assert!(columns(line) <= width, "{line}");
        }
        assert!(err.contains("epoch 2/2  loss "), "{err}");
        // The shell runs what follows `next:`.
        let (_, next) = out.split_once("\nnext: ").unwrap();
        let shell = std::process::Command::new("sh").args(["-c", next]).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&shell.stdout), String::from_utf8_lossy(&shell.stderr));
        assert!(shell.status.success() && next.contains(" predict "), "{next}\n{err}");
        assert!(out.contains("\tbed\t") || out.contains("\tcat\t"), "{out}");
        assert_eq!(next.contains("example.wav"), name == "embedded", "{next}");
    }
}

#[test]
fn empty_variables_count_as_unset() {
    for (variable, value) in
        [("STAPES_THREADS", ""), ("STAPES_THREADS", "  "), ("STAPES_THREADS", "2"), ("STAPES_ISA", "")]
    {
        stapes().arg("models").env(variable, value).assert().success();
    }
    for value in ["0", "many", "1025", "-1", "2.5", "\u{1b}[2J"] {
        let refused = stapes().arg("models").env("STAPES_THREADS", value).assert().code(2);
        let sentence = "STAPES_THREADS must be a whole number from 1 to 1024, got `";
        refused.stderr(contains(sentence).and(contains("\u{1b}").not()));
    }
    // The option has priority, so that a wrong variable does not matter.
    stapes().args(["models", "--threads", "2"]).env("STAPES_THREADS", "many").assert().success();
}

#[test]
fn shells_complete_every_command_and_the_manual_page_names_them() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stapes().args(["completions", shell]).assert().success();
        script.stdout(contains("gradcheck").and(contains("--epochs").or(contains("epochs"))));
    }
    stapes().args(["completions", "tcsh"]).assert().code(2).stderr(contains("possible values"));
    let page = stapes().arg("man").assert().success();
    page.stdout(contains(".TH stapes 1").and(contains("gradcheck")));
    let page = stapes().args(["man", "train"]).assert().success();
    let title = contains(".TH stapes\\-train 1").or(contains(".TH stapes-train 1"));
    let footer = contains(concat!("\"stapes ", env!("CARGO_PKG_VERSION"), "\""));
    page.stdout(
        title.and(footer).and(contains("[\\-\\-epochs N]")).and(contains("[\\-\\-split speaker|official|random]")),
    );
    let page = stapes().args(["man", "predict"]).assert().success();
    page.stdout(contains("\\-h] RUN CLIP ..").or(contains("\\-help] RUN CLIP ..")));
    stapes()
        .args(["man", "trane"])
        .assert()
        .code(2)
        .stderr(contains("there is no command trane; the commands are train"));
}
