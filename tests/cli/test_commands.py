"""The command line as a user meets it.

JSON on standard output alone, exit codes, and errors in one line.
"""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import HANG, Process, devsort, last_line

from devsort.sorting.checkpoints import load_resume_step
from devsort.sorting.run import open_run

COMMANDS = ("train", "llc", "heads", "stages", "chart", "compare", "status", "config", "validate")
ON_A_RUN = ("train", "llc", "heads", "stages", "chart", "status", "config")
WRITERS = ("train", "llc", "heads", "stages")


def error(*arguments) -> str:
    """The one line of a user's error: exit code 2, nothing on standard output, no traceback."""
    result = devsort(*arguments)
    assert result.code == 2 and result.out == "", result
    assert result.err.count("devsort: error: ") == 1 and "Traceback" not in result.err
    line = last_line(result.err)
    assert line.startswith("devsort: error: ")
    return line.removeprefix("devsort: error: ")


def value_of(*arguments) -> dict:
    """The JSON object that a command prints, checked to be the only thing there."""
    result = devsort(*arguments, "--json")
    assert result.code == 0, result.err
    assert result.out.count("\n") == 1 and result.out.endswith("\n")
    return json.loads(result.out, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))


def run_with(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(text)
    return folder


# ---- what each command prints

KEYS = {
    "train": {"run", "steps", "checkpoints", "val_loss", "val_accuracy", "steps_per_second"},
    "llc": {"run", "trajectory"},
    "heads": {"run", "checkpoints"},
    "stages": {"boundaries", "stages", "events"},
    "chart": {"run", "files"},
}


@pytest.mark.parametrize("command", KEYS)
def test_json_has_the_keys_of_the_design(smoke, command):
    assert KEYS[command] <= smoke.values[command].keys()


def test_json_of_the_parts(smoke):
    assert {
        "step",
        "restriction",
        "llc",
        "se",
        "rhat",
        "ess",
        "loss",
        "chains_failed",
        "flags",
    } <= smoke.values["llc"]["trajectory"][0].keys()
    checkpoint = smoke.values["heads"]["checkpoints"][-1]
    assert {"step", "loss", "accuracy", "heads", "scores", "labels"} <= checkpoint.keys()
    assert {"head", "copies", "suppresses", "needed"} <= checkpoint["heads"][0].keys()
    assert {"vocabulary_splitting", "copy_suppression", "overlap"} <= checkpoint["scores"].keys()
    assert {"name", "from", "to", "llc", "loss"} <= smoke.values["stages"]["stages"][0].keys()
    assert all({"step", "ci95"} <= b.keys() for b in smoke.values["stages"]["boundaries"])
    assert all(Path(f).is_file() for f in smoke.values["chart"]["files"])


def test_json_of_status_config_compare_and_validate(smoke, tmp_path):
    assert {p["part"] for p in value_of("status", smoke.path)["parts"]} == {
        "checkpoints",
        "llc",
        "heads",
        "stages",
    }
    config = value_of("config", smoke.path, "--set", "train.lr=0.5")
    assert config["train"]["lr"] == 0.5 and config["train"]["steps"] == 300
    assert value_of("config")["train"]["steps"] == 6000
    case = value_of("validate", "--case", "small-step")["cases"][0]
    assert {"case", "true", "estimate", "se", "ok"} <= case.keys() and case["ok"] is True
    other = smoke.copy(tmp_path)
    compared = value_of("compare", smoke.path, other, "--out", tmp_path / "out")
    assert all(Path(f).is_file() for f in compared["files"])


@pytest.mark.parametrize("command", ["train", "llc", "heads", "stages", "status", "config"])
def test_without_json_there_is_text_for_a_reader(smoke, command):
    result = devsort(command, smoke.path)
    assert result.code == 0 and not result.out.startswith("{")
    assert all(len(line) < 160 for line in result.out.splitlines()) and len(result.out) > 60


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_with_an_example(command):
    result = devsort(command, "--help")
    assert result.code == 0 and f"Example: devsort {command}" in " ".join(result.out.split())


def test_devsort_alone_prints_the_help():
    alone, asked = devsort(), devsort("--help")
    assert alone == asked and alone.code == 0
    assert all(f"  {command} " in alone.out for command in COMMANDS)


def test_help_imports_nothing_heavy():
    heavy = "{'torch', 'xarray', 'zarr', 'matplotlib', 'devinterp', 'scipy', 'pydantic', 'numpy'}"
    code = (
        "import sys, devsort.cli\n"
        "try: devsort.cli.main(['--help'])\n"
        f"except SystemExit as e: print(e.code, sorted({heavy} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG
    )
    assert found.stdout.splitlines()[-1] == "0 []"


# ---- a user's errors


@pytest.mark.parametrize("command", ON_A_RUN)
def test_a_missing_folder(tmp_path, command):
    told = f"{tmp_path}/none is no folder; give a run folder that holds a config.yaml, such as runs/baseline"
    assert error(command, tmp_path / "none") == told


@pytest.mark.parametrize("command", ON_A_RUN)
def test_an_empty_or_foreign_folder(tmp_path, command):
    (tmp_path / "thesis.tex").touch()
    told = f"{tmp_path}/config.yaml does not exist; name a folder with a config.yaml, such as runs/baseline"
    assert error(command, tmp_path) == told
    assert os.listdir(tmp_path) == ["thesis.tex"]


CONFIGS = {
    "train: [": "is not valid YAML (",
    "- train": "holds a list, expected a mapping of sections; ",
    "train: {steps: 5, stepz: 6}": "unknown key train.stepz; ",
    "train: {steps: -5}": "train.steps: Input should be greater than or equal to 1 (got '-5'); ",
    "model: {heads: 9}": "model.heads: Input should be less than or equal to 8 (got '9'); ",
    "task: {list_length: 60}": "list_length 60 is more than the 51 numbers to draw from",
    "train: {lr: .nan}": "train.lr: ",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_a_config_that_is_refused(tmp_path, text):
    assert CONFIGS[text] in error("train", run_with(tmp_path / "run", text))
    assert os.listdir(tmp_path / "run") == ["config.yaml"]


@pytest.mark.parametrize("command", ["llc", "heads", "stages", "chart"])
def test_no_checkpoints_yet(tiny_run, command):
    told = error(command, tiny_run.path)
    assert (
        told.endswith("first")
        and f"`devsort {'train' if command in ('llc', 'heads') else ''}" in told
    )


def test_stages_and_charts_name_the_step_that_is_missing(smoke, tmp_path):
    folder = smoke.copy(tmp_path, "checkpoints", "training.jsonl")
    for command in ("stages", "chart"):
        assert (
            error(command, folder)
            == f"{folder}/llc.zarr is missing; run `devsort llc {folder}` first"
        )


@pytest.mark.parametrize("command", ["llc", "heads"])
def test_a_truncated_checkpoint(smoke, tmp_path, command):
    folder = smoke.copy(tmp_path, "checkpoints", "training.jsonl")
    file = open_run(folder).checkpoint(150)
    file.write_bytes(file.read_bytes()[:1000])
    told = error(command, folder)
    assert told.startswith(f"{file} is cut short or damaged (")
    assert told.endswith(f"; run `devsort train {folder}` to make it again")


PARSER = {
    ("train", "RUN", "--fast"): ("No such option: --fast", "see `devsort train --help`"),
    ("train",): ("Missing argument 'RUN'", "see `devsort train --help`"),
    ("trian", "RUN"): ("No such command 'trian'", "see `devsort --help`"),
    ("train", "RUN", "more"): ("Got unexpected extra argument", "see `devsort train --help`"),
    ("llc", "RUN", "--sampler", "gibbs"): (
        "Invalid value for '--sampler': ",
        "see `devsort llc --help`",
    ),
    ("heads", "--list-length", "1"): (
        "Invalid value for '--list-length': ",
        "see `devsort heads --help`",
    ),
}


@pytest.mark.parametrize("arguments", PARSER, ids=" ".join)
def test_what_the_parser_refuses(tiny_run, arguments):
    """Between what is said and the remedy, versions of typer say more or less."""
    what, remedy = PARSER[arguments]
    told = error(*(a.replace("RUN", str(tiny_run.path)) for a in arguments))
    assert told.startswith(what) and told.endswith(f"; {remedy}")


USAGE = {
    ("train", "RUN", "--set", "train.steps"): (
        "--set 'train.steps' is not key=value; write for example --set train.steps=1000"
    ),
    ("train", "RUN", "--set", "train.stepz=3"): (
        "RUN/config.yaml: unknown key train.stepz; see `devsort config --help` for keys and ranges"
    ),
    ("stages",): "stages needs either RUN or --trajectory FILE.csv; give one of them",
    ("heads",): "heads needs exactly one of RUN, --weights FILE and --hf FOLDER; give one of them",
    (
        "compare",
        "RUN",
    ): "compare needs two or more different runs; name them, as in `devsort compare RUN RUN`",
}


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage(tiny_run, arguments):
    path = str(tiny_run.path)
    assert error(*(a.replace("RUN", path) for a in arguments)) == USAGE[arguments].replace(
        "RUN/", f"{path}/"
    )


@pytest.mark.parametrize(
    ("command", "override"),
    [("train", "task.eval_lists=1000000000"), ("train", "train.batch_size=1000000000"),
     ("llc", "llc.dataset_size=1000000000"), ("llc", "llc.sampler.batch_size=1000000000")],
)  # fmt: skip
def test_out_of_memory(smoke, tmp_path, command, override):
    folder = smoke.copy(tmp_path, "checkpoints", "training.jsonl")
    if command == "train":
        (folder / "checkpoints" / "resume.safetensors").unlink()
        for file in (folder / "checkpoints").iterdir():
            file.unlink()
    told = error(command, folder, "--set", override)
    assert told.startswith("out of memory (")
    assert told.endswith(
        "; lower what asks for it: task.eval_lists, llc.dataset_size, a batch_size, num_chains or num_draws"
    )


def test_a_folder_that_cannot_be_written(tiny_run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    told = error("train", tiny_run.path)
    assert (
        told.startswith(str(tiny_run.path))
        and "cannot be written (No space left on device)" in told
    )


# ---- one writer at a time


@pytest.mark.parametrize("command", WRITERS)
def test_a_second_writer_is_refused(smoke, tmp_path, command):
    run = open_run(smoke.copy(tmp_path))
    with run.lock():
        told = f"{run.path} is in use by process {os.getpid()}; wait for it, or stop that process"
        assert error(command, run.path) == told
    assert devsort(command, run.path).code == 0


def test_readers_are_not_held_up(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    with run.lock():
        assert devsort("status", run.path).code == 0 and devsort("config", run.path).code == 0


# ---- signals and pipes


def test_terminated_is_one_line_and_143(tiny_run, tmp_path):
    process = Process(tmp_path / "log", "train", tiny_run.path, "--set", "train.steps=1000000")
    assert process.stop_when(tiny_run.resume_state.exists, signal.SIGTERM) == 143
    saved = load_resume_step(tiny_run)
    told = f"devsort: terminated; steps up to {saved} of 1000000 are saved, the same command goes on from there"
    log = process.log.read_text()
    assert last_line(log) == told and "Traceback" not in log


def test_a_reader_that_leaves_ends_it_quietly():
    command = [sys.executable, "-c", "from devsort.cli import main; main(['config'])"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(timeout=HANG) == 141


def test_a_full_standard_output_is_told(tiny_run):
    """The work is done and saved; only its report has no room."""
    code = f"from devsort.cli import main; main(['config', {str(tiny_run.path)!r}])"
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=HANG,
        )
    told = "standard output cannot be written (No space left on device); the work itself is saved"
    assert (found.returncode, found.stderr) == (2, f"devsort: error: {told}\n")


@pytest.mark.parametrize(
    ("code", "users"), [(errno.EMFILE, True), (errno.EIO, True), (errno.ENOENT, False)]
)
def test_what_the_machine_refuses_is_no_defect_of_ours(tiny_run, monkeypatch, code, users):
    def fail(*_):
        raise OSError(code, os.strerror(code), "some/file")

    monkeypatch.setattr("devsort.storage.artifacts.refuse_links", fail)
    if users:
        fix = "make room or permissions, then run the same command: finished work is kept"
        assert (
            error("config", tiny_run.path)
            == f"some/file cannot be read or written ({os.strerror(code)}); {fix}"
        )
    else:
        with pytest.raises(OSError):
            devsort("config", tiny_run.path)
