"""The command line as a user meets it.

JSON on standard output alone, exit codes, and errors in one line.
"""

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from commands import HANG, Process, devsort, last_line
from folders import hashes

from devsort.llc import store
from devsort.sorting import artifacts, checkpoints
from devsort.sorting.checkpoints import load_resume_step
from devsort.sorting.run import open_run

ON_A_RUN = ("train", "llc", "heads", "stages", "chart", "status", "config")
COMMANDS = ("init", *ON_A_RUN, "susceptibility", "pattern", "compare", "validate")
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
    "stages": {"boundaries", "stages", "events", "summary", "notes"},
    "chart": {"run", "files"},
}


@pytest.mark.parametrize("command", KEYS)
def test_json_has_the_keys_of_the_design(smoke, command):
    assert KEYS[command] <= smoke.values[command].keys()


def test_json_of_the_parts(smoke):
    row = {"step", "restriction", "llc", "se", "ci95", "rhat", "ess", "loss", "chains_failed"}
    assert {*row, "parts", "flags"} <= smoke.values["llc"]["trajectory"][0].keys()
    checkpoint = smoke.values["heads"]["checkpoints"][-1]
    assert {"step", "loss", "accuracy", "heads", "scores", "labels"} <= checkpoint.keys()
    assert {"head", "copies", "suppresses", "needed"} <= checkpoint["heads"][0].keys()
    assert {"vocabulary_splitting", "copy_suppression", "overlap"} <= checkpoint["scores"].keys()
    assert {"name", "from", "to", "llc", "loss"} <= smoke.values["stages"]["stages"][0].keys()
    assert all({"step", "ci95"} <= b.keys() for b in smoke.values["stages"]["boundaries"])
    assert all(Path(f).is_file() for f in smoke.values["chart"]["files"])


def test_json_of_status_config_compare_and_validate(smoke, tmp_path):
    parts = [part["part"] for part in value_of("status", smoke.path)["parts"]]
    assert parts == ["checkpoints", "llc", "heads", "stages", "figures"]
    config = value_of("config", smoke.path, "--set", "train.lr=0.5")
    assert config["train"]["lr"] == 0.5 and config["train"]["steps"] == 300
    assert value_of("config")["train"]["steps"] == 6000
    case = value_of("validate", "--case", "small-step")["cases"][0]
    assert {"case", "true", "estimate", "se", "ok"} <= case.keys() and case["ok"] is True
    other = smoke.copy(tmp_path)
    compared = value_of("compare", smoke.path, other, "--out", tmp_path / "out")
    assert all(Path(f).is_file() for f in compared["files"])


def test_the_intervals_of_a_run_are_the_same_wherever_they_are_told(smoke, tmp_path):
    """Those of Student's t, in the rows of `llc`, the summary of `stages` and in `compare`."""
    full = [r for r in smoke.values["llc"]["trajectory"] if r["restriction"] == "full"]
    top = max(full, key=lambda row: row["llc"])
    summary = smoke.values["stages"]["summary"]
    for name, row in (("peak_llc", top), ("final_llc", full[-1])):
        assert summary[name] == pytest.approx(row["llc"])
        assert summary[f"{name}_se"] == pytest.approx(row["se"])
        assert summary[f"{name}_ci95"] == pytest.approx(row["ci95"])
    other, out = smoke.copy(tmp_path), tmp_path / "out"
    compared = value_of("compare", smoke.path, other, "--out", out)
    for run in compared["runs"]:
        assert {key: run[key] for key in summary} == summary
    low, high = summary["peak_llc_ci95"]
    assert f"({low:.4g} to {high:.4g})" in (out / "compare.md").read_text()


@pytest.mark.parametrize("command", ["train", "llc", "heads", "stages", "status", "config"])
def test_without_json_there_is_text_for_a_reader(smoke, command):
    result = devsort(command, smoke.path)
    assert result.code == 0 and not result.out.startswith("{")
    assert all(len(line) < 160 for line in result.out.splitlines()) and len(result.out) > 60


@pytest.mark.parametrize("overrides", [(), ("llc.parts=[]", "task.mean_gap=3", "train.lr=1e-4")])
def test_the_settings_are_yaml_that_reads_back_with_ranges_and_meanings(smoke, tmp_path, overrides):
    sets = [word for override in overrides for word in ("--set", override)]
    page = devsort("config", smoke.path, *sets).out
    copied = run_with(tmp_path / "copied", page)
    assert open_run(copied).config == open_run(smoke.path, overrides).config
    assert "# from 2 to 100; L, numbers in a list" in page
    assert "# from 0 or weight_decay; ρ, precision of a Gaussian prior at zero" in page
    assert "# auto or cpu or cuda; auto: the GPU if there is one" in page
    settings = [line for line in page.splitlines() if not line.endswith(":")]
    assert all(line.partition(" # ")[2] for line in settings)


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
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG)
    assert found.stdout.splitlines()[-1] == "0 []"


# ---- a user's errors


@pytest.mark.parametrize("command", ON_A_RUN)
def test_a_missing_folder(tmp_path, command):
    fix = f"give a run folder, or make one with `devsort init {tmp_path}/none`"
    assert error(command, tmp_path / "none") == f"{tmp_path}/none is not a folder; {fix}"


@pytest.mark.parametrize("command", ON_A_RUN)
def test_an_empty_or_foreign_folder(tmp_path, command):
    (tmp_path / "thesis.tex").touch()
    fix = "name a run folder, or make one with `devsort init FOLDER`"
    assert error(command, tmp_path) == f"{tmp_path}/config.yaml does not exist; {fix}"
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
    assert told.endswith("first")
    assert f"`devsort {'train' if command in ('llc', 'heads') else ''}" in told


def test_stages_and_charts_name_the_step_that_is_missing(smoke, tmp_path):
    folder = smoke.copy(tmp_path, "checkpoints", "training.jsonl")
    missing = f"{folder}/llc.zarr is missing; run `devsort llc {folder}` first"
    assert error("stages", folder) == error("chart", folder) == missing


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


FEW = "compare needs two or more different runs; name them, as in `devsort compare RUN RUN`"
USAGE = {
    ("train", "RUN", "--set", "train.steps"): (
        "--set 'train.steps' is not key=value; write for example --set train.steps=1000"
    ),
    ("train", "RUN", "--set", "train.stepz=3"): (
        "RUN/config.yaml: unknown key train.stepz; see `devsort config --help` for keys and ranges"
    ),
    ("stages",): "stages needs either RUN or --trajectory FILE.csv; give one of them",
    ("heads",): "heads needs exactly one of RUN, --weights FILE and --hf FOLDER; give one of them",
    ("compare", "RUN"): FEW,
    ("compare", "RUN", "RUN"): FEW,
}


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage(tiny_run, arguments):
    path = str(tiny_run.path)
    told = error(*(a.replace("RUN", path) for a in arguments))
    assert told == USAGE[arguments].replace("RUN/", f"{path}/")


@pytest.mark.parametrize(
    ("command", "override"),
    [("train", "task.eval_lists=1000000000"), ("train", "train.batch_size=1000000000"),
     ("llc", "llc.dataset_size=1000000000"), ("llc", "llc.sampler.batch_size=1000000000")],
)  # fmt: skip
def test_out_of_memory(smoke, tmp_path, command, override):
    folder = smoke.copy(tmp_path, "checkpoints", "training.jsonl")
    if command == "train":
        for file in (folder / "checkpoints").iterdir():
            file.unlink()
    told = error(command, folder, "--set", override)
    settings = "task.eval_lists, llc.dataset_size, a batch_size, num_chains or num_draws"
    assert told.startswith("out of memory (")
    assert told.endswith(f"; lower what asks for it: {settings}")


def test_a_folder_that_cannot_be_written(tiny_run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    told = error("train", tiny_run.path)
    assert told.startswith(str(tiny_run.path))
    assert "cannot be written (No space left on device)" in told


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
    done = f"steps up to {saved} of 1000000 are saved, the same command goes on from there"
    log = process.log.read_text()
    assert last_line(log) == f"devsort: terminated; {done}" and "Traceback" not in log


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
    command = [sys.executable, "-c", code]
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=HANG
        )
    told = "standard output cannot be written (No space left on device); the work itself is saved"
    assert (found.returncode, found.stderr) == (2, f"devsort: error: {told}\n")


@pytest.mark.parametrize(
    ("code", "users"), [(errno.EMFILE, True), (errno.EIO, True), (errno.EINVAL, False)]
)
def test_what_the_machine_refuses_is_no_defect_of_ours(tiny_run, monkeypatch, code, users):
    def fail(*_):
        raise OSError(code, os.strerror(code), "some/file")

    monkeypatch.setattr(os, "scandir", fail)
    if users:
        fix = "make room or permissions, then run the same command: finished work is kept"
        what = f"some/file cannot be read or written ({os.strerror(code)})"
        assert error("config", tiny_run.path) == f"{what}; {fix}"
    else:
        with pytest.raises(OSError):
            devsort("config", tiny_run.path)


# ---- what commands write, and what they read


def compare_to(out: Path, smoke, folder: Path) -> tuple:
    other = folder / "smoke"
    return "compare", smoke.path, other if other.is_dir() else smoke.copy(folder), "--out", out


def stages_of_a_table(out: Path, smoke, folder: Path) -> tuple:
    rows = [f"{10**i},{value},1" for i, value in enumerate((1, 10, 300, 20))]
    (folder / "t.csv").write_text("\n".join(["step,llc,se", *rows]))
    setting = ("--set", "stages.bootstrap=20")
    return "stages", "--trajectory", folder / "t.csv", "--out", out, *setting


WRITTEN = {
    compare_to: ["compare.json", "compare.md", "compare.png", "compare.svg"],
    stages_of_a_table: ["stages.json", "stages.png", "stages.svg"],
}


@pytest.mark.parametrize("command", WRITTEN)
def test_a_command_with_a_folder_of_its_own_says_what_it_wrote(smoke, tmp_path, command):
    out = tmp_path / "out"
    arguments = command(out, smoke, tmp_path)
    result = devsort(*arguments)
    assert result.code == 0, result.err
    told = [line for line in result.out.splitlines() if line.startswith("written: ")]
    assert sorted(told) == [f"written: {out / name}" for name in WRITTEN[command]]
    assert sorted(os.listdir(out)) == WRITTEN[command]
    before = hashes(out)
    files = value_of(*arguments)["files"]  # into the same folder again
    assert sorted(files) == [str(out / name) for name in WRITTEN[command]]
    assert hashes(out) == before


@pytest.mark.parametrize("command", WRITTEN)
def test_a_folder_of_strangers_is_not_written_into(smoke, tmp_path, command):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    fix = "give another folder with --out"
    told = f"{out} holds files that devsort did not write; {fix}"
    assert error(*command(out, smoke, tmp_path)) == told
    assert os.listdir(out) == ["thesis.tex"]


def test_trained_twice_it_is_the_same_bytes(tiny_run):
    assert devsort("train", tiny_run.path).code == 0
    before = hashes(tiny_run.path)
    assert devsort("train", tiny_run.path, "--force").code == 0
    assert hashes(tiny_run.path) == before and len(before) > 8


@pytest.fixture
def reads(monkeypatch) -> Counter:
    """How often each verified file is read, in this process."""
    found = Counter()

    def counting(module, name: str) -> None:
        read = getattr(module, name)

        def counted(path, *args, **kwargs):
            found[Path(path).name] += 1
            return read(path, *args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    counting(store, "read_store")
    counting(artifacts, "read_dataset")
    counting(artifacts, "read_object")
    counting(checkpoints, "load_tensors")
    return found


def test_each_sampled_checkpoint_is_read_once(smoke, tmp_path, reads):
    folder = smoke.copy(tmp_path, "checkpoints", "training.jsonl")
    assert devsort("llc", folder).code == 0
    sampled = {row["step"] for row in smoke.values["llc"]["trajectory"]}
    expected = dict.fromkeys((open_run(folder).checkpoint(s).name for s in sampled), 1)
    assert reads == {**expected, "llc.zarr": 1}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("chart", {"llc.zarr": 1, "heads.zarr": 1, "stages.json": 1}),
        ("stages", {"llc.zarr": 1, "heads.zarr": 1, "stages.json": 1}),
        ("heads", {"heads.zarr": 1}),
        ("status", {"llc.zarr": 1, "heads.zarr": 1, "stages.json": 1, "made-from.json": 1}),
        ("compare", {"llc.zarr": 2, "heads.zarr": 2, "stages.json": 2}),  # one of each run
    ],
)
def test_a_command_verifies_each_input_once(smoke, tmp_path, reads, command, expected):
    more = (smoke.path, "--out", tmp_path / "out") if command == "compare" else ()
    assert devsort(command, smoke.copy(tmp_path), *more).code == 0
    weights = {name for name in reads if name.endswith(".safetensors")}
    assert {name: n for name, n in reads.items() if name not in weights} == expected
    assert all(reads[name] == 1 for name in weights)
