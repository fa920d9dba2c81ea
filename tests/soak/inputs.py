"""Bad input by the thousand, in files and options.

A command ends with 0, or with one line and 2.

Properties of hypothesis, each over one kind of input; what takes longer gets fewer of the cases.
"""

import io
import os
import resource
import signal
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import yaml
from commands import devsort, last_line
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from safetensors.torch import save as safetensors_bytes
from soak.report import Row

from devsort.sorting.config import Config, ModelConfig, TaskConfig
from devsort.sorting.model import init_params, model_shape
from devsort.storage.settings import Section

CASES = {"test": 500, "soak": 10_000}
HANG = 120  # seconds after which a case counts as hanging
MEMORY = 1_000_000  # kB by which all cases together may raise the peak
quiet = {
    "phases": [Phase.generate],
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
for name, cases in CASES.items():
    settings.register_profile(name, max_examples=cases, **quiet)


def check(*arguments: str | Path) -> None:
    """Runs a command.

    Anything but exit code 0, or 2 with one line, is a failure of the property.
    """
    with limited():
        result = devsort(*arguments)
    torch.set_flush_denormal(False)  # hypothesis draws denormal floats
    assert result.code in (0, 2), result
    if result.code == 2:
        line = last_line(result.err)
        assert (
            line.startswith("devsort: error: ")
            and result.out == ""
            and "Traceback" not in result.err
        ), result


@contextmanager
def limited() -> Iterator[None]:
    """Raises where the work stands if a case takes too long."""

    def hang(*_: object) -> None:
        raise TimeoutError(f"more than {HANG} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---- config.yaml and --set

PIECES = [
    *("task", "train", "llc", "sampler", "numbers", "steps"),
    *(": ", "\n", "  ", "{", "}", "[", "]", ",", "- ", "? ", "&a ", "*a", "<<: *a"),
    *("!!int ", "!!timestamp ", "!!binary ", "!!set ", "!!python/name:os ", "''", '"\\ud800"'),
    *("0x", "1:99", ".inf", "1e999", "|", ">", "#", "~", "---", "\t", "\0", "é", "=", "."),
]
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3)
)


def dotted(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every setting by its dotted name."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from dotted(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


SETTINGS = list(dotted())
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
trees = st.dictionaries(st.sampled_from([*Config.model_fields, "other"]), values, max_size=5)
configs = st.one_of(
    st.binary(max_size=400),
    texts.map(lambda text: text.encode("utf-8", "replace")),
    trees.map(lambda tree: yaml.safe_dump(tree).encode()),
)
overrides = st.one_of(
    st.text(max_size=40),
    texts,
    st.tuples(st.sampled_from(SETTINGS), values).map(
        lambda pair: f"{pair[0]}={yaml.safe_dump(pair[1])}"
    ),
).map(lambda text: text.replace("\0", ""))  # which no command line can hold


@given(configs)
def config_files(data: bytes) -> None:
    """Any bytes as config.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_bytes(data)
        check("config", folder, "--json")


@given(st.lists(overrides, max_size=3))
def options(texts: list[str]) -> None:
    """Any text after --set."""
    check("config", "--json", *(argument for text in texts for argument in ("--set", text)))


# ---- runs whose settings are allowed, and odd

odd = st.fixed_dictionaries(
    {
        "task.list_length": st.sampled_from([2, 3, 5]),
        "task.numbers": st.sampled_from([2, 5, 30]),
        "task.label_noise": st.sampled_from([0, 0.5, 1]),
        "task.train_lists": st.sampled_from([None, 1, 7]),
        "task.eval_lists": st.sampled_from([1, 2, 33]),
        "model.heads": st.sampled_from([1, 2, 8]),
        "model.d_model": st.sampled_from([1, 2, 5]),
        "model.d_head": st.sampled_from([1, 3]),
        "model.layer_norm": st.booleans(),
        "model.init_scale": st.sampled_from([1e-30, 1.0, 1e11]),
        "train.steps": st.sampled_from([1, 3, 12]),
        "train.batch_size": st.sampled_from([1, 2, 9]),
        "train.lr": st.sampled_from([1e-30, 1e-3, 1e11]),
        "train.weight_decay": st.sampled_from([0, 1e11]),
        "train.betas": st.sampled_from([[0, 0], [0.9, 0.999]]),
        "train.eps": st.sampled_from([1e-300, 1e-8, 1e11]),
        "llc.sampler.geometry": st.sampled_from(["relative", "absolute"]),
        "llc.sampler.lr": st.sampled_from([1e-30, 1e-5, 1e11]),
        "llc.sampler.n_beta": st.sampled_from([1e-30, 100, 1e11]),
        "llc.sampler.localization": st.sampled_from([0, 1e11]),
        "llc.sampler.prior": st.sampled_from([0, "weight_decay", 1e11]),
        "llc.sampler.noise_level": st.sampled_from([0, 1, 1e11]),
        "llc.sampler.num_chains": st.sampled_from([1, 2]),
        "llc.sampler.num_draws": st.sampled_from([1, 2, 5]),
        "llc.sampler.num_burnin_steps": st.sampled_from([0, 1]),
        "llc.sampler.num_steps_bw_draws": st.sampled_from([1, 3]),
        "llc.sampler.batch_size": st.sampled_from([1, 40]),
        "llc.dataset_size": st.sampled_from([1, 5]),
        "llc.restrictions": st.sampled_from(
            [["full"], ["heads"], ["h0", "h0"], ["h7"], [], ["full", "W_E"]]
        ),
        "llc.parts": st.sampled_from(
            [[], ["gaps"], ["targets:1"], ["targets:99"], ["gaps", "gaps"]]
        ),
        "llc.max_checkpoints": st.sampled_from([1, 3]),
        "heads.lists": st.sampled_from([1, 3]),
        "heads.bootstrap": st.sampled_from([1, 2]),
        "stages.bootstrap": st.sampled_from([1, 2]),
        "stages.signals": st.sampled_from([[], ["loss"], ["h0"], ["nothing"]]),
    }
)


@given(odd)
def runs(chosen: dict) -> None:
    """Settings that are allowed one by one, through every step."""
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK) as folder:
        config: dict = {"device": "cpu"}
        for key, value in chosen.items():
            *sections, name = key.split(".")
            section = config
            for one in sections:
                section = section.setdefault(one, {})
            section[name] = value
        (Path(folder) / "config.yaml").write_text(yaml.safe_dump(config))
        for command in ("train", "llc", "heads", "stages", "status"):
            check(command, folder, "--json")


MEMORY_DISK = "/dev/shm" if os.path.isdir("/dev/shm") else None

# ---- trajectories

cells = st.one_of(
    st.floats().map(str),
    st.integers(-3, 10**6).map(str),
    st.sampled_from(
        [
            "",
            "nan",
            "inf",
            "-inf",
            "1e308",
            "1e-308",
            "0",
            "1_000",
            "٣",
            " 5 ",
            "x",
            '"',
            '"1\n2"',
            "1;2",
            "1,5",
            "1,000",
            "true",
            "# 3",
        ]
    ),
)
headers = st.one_of(
    st.just(["step", "llc", "se", "loss"]),
    st.just(["_step", "a/llc_mean", "llc_std", "num_chains", "flag"]),
    st.lists(st.sampled_from(["step", "llc", "se", "std", "Step ", "", "other"]), max_size=5),
)
separators = st.sampled_from(",,;\t| ")
rows = st.lists(st.lists(cells, max_size=5), max_size=8)
smooth = st.builds(
    lambda n, seed, scale, se: walk(n, seed, scale, se),
    st.integers(3, 40),
    st.integers(0, 10**6),
    st.sampled_from([0, 1e-300, 1e-3, 1, 1e6, 1e150, 1e300]),
    st.sampled_from([0, 1e-300, 1, 1e300]),
)


def walk(n: int, seed: int, scale: float, se: float) -> bytes:
    """A random walk over log step, of any scale."""
    rng = np.random.Generator(np.random.PCG64(seed))
    steps, llc = np.unique(rng.integers(1, 10**6, n)), scale * np.cumsum(rng.standard_normal(n))
    lines = [
        f"{step},{value!r},{se!r},{abs(value)!r}"
        for step, value in zip(steps, llc.tolist(), strict=False)
    ]
    return "\n".join(["step,llc,se,loss", *lines]).encode()


tables = st.tuples(headers, rows, separators).map(
    lambda t: "\n".join(t[2].join(row) for row in [t[0], *t[1]]).encode("utf-8")
)
trajectories = st.one_of(st.binary(max_size=300), tables, tables, smooth)


def no_picture(*_: object, **options: object) -> None:
    """Stands for the writing of a figure."""


@given(trajectories)
def csv_files(data: bytes) -> None:
    """Any bytes as the CSV of a trajectory.

    Its chart is drawn and not written as a picture, which takes most time.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("matplotlib.figure.Figure.savefig", no_picture),
    ):
        (Path(folder) / "t.csv").write_bytes(data)
        few = ("--set", "stages.bootstrap=2")
        check("stages", "--trajectory", f"{folder}/t.csv", "--out", f"{folder}/out", "--json", *few)


# ---- weight files

SHAPE = model_shape(TaskConfig(list_length=2, numbers=5), ModelConfig(heads=1, d_model=4, d_head=2))
PARAMS = init_params(SHAPE, 1.0, 0)


def whole_files() -> dict[str, bytes]:
    """A weight file of each kind."""
    buffer = io.BytesIO()
    torch.save(PARAMS, buffer)
    return {".pt": buffer.getvalue(), ".safetensors": safetensors_bytes(PARAMS)}


WHOLE = whole_files()
kinds = st.sampled_from(["set", "cut", "insert", "drop"])
edits = st.lists(st.tuples(st.floats(0, 1), kinds, st.binary(max_size=9)), min_size=1, max_size=6)


def mutated(suffix: str, edited: list[tuple[float, str, bytes]]) -> bytes:
    """A weight file with some bytes changed, put in, left out or cut off.

    Of archives, often those of the pickle.
    """
    data = bytearray(WHOLE[suffix])
    for place, kind, new in edited:
        i = int(place * len(data))
        if kind == "set":
            data[i : i + len(new)] = new
        elif kind == "insert":
            data[i:i] = new
        elif kind == "drop":
            del data[i : i + len(new)]
        elif place > 0.9:
            del data[i:]
    return bytes(data)


def mutated_pickle(edited: list[tuple[float, str, bytes]]) -> bytes:
    """A sound archive around a pickle that is not."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(WHOLE[".pt"])) as source,
        zipfile.ZipFile(buffer, "w") as target,
    ):
        for name in source.namelist():
            data = bytearray(source.read(name))
            for place, _, new in edited if name.endswith("data.pkl") else ():
                i = int(place * len(data))
                data[i : i + len(new)] = new
            target.writestr(name, bytes(data))
    return buffer.getvalue()


def claiming(shape: list[int], offsets: list[int], dtype: str) -> bytes:
    """A safetensors file whose header claims a tensor."""
    text = (
        f'{{"embed.W_E":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}'.encode()
    )
    return struct.pack("<Q", len(text)) + text + bytes(64)


sizes = st.one_of(st.integers(-1, 9), st.sampled_from([10**12, 2**40, 2**63, 2**64]))
claims = st.builds(claiming, st.lists(sizes, max_size=3), st.lists(sizes, min_size=2, max_size=2),
                   st.sampled_from(["F32", "F16", "I64", "BOOL", "F8_E4M3", "X"]))  # fmt: skip
weight_files = st.one_of(
    st.tuples(st.sampled_from(sorted(WHOLE)), st.binary(max_size=300)),
    st.sampled_from(sorted(WHOLE)).flatmap(lambda s: edits.map(lambda e: (s, mutated(s, e)))),
    edits.map(lambda e: (".pt", mutated_pickle(e))),
    claims.map(lambda data: (".safetensors", data)),
)


@given(weight_files)
def weights(file: tuple[str, bytes]) -> None:
    """Any bytes as a weight file."""
    suffix, data = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"w{suffix}"
        path.write_bytes(data)
        small = (
            "--list-length",
            "2",
            "--numbers",
            "5",
            "--set",
            "heads.lists=4",
            "--set",
            "heads.bootstrap=2",
        )
        check("heads", "--weights", path, "--json", *small)


# ---- all of them

Properties = dict[str, tuple[Callable[[], None], float]]  # with their shares of the cases
PROPERTIES: Properties = {
    "bad config.yaml": (config_files, 0.3),
    "bad --set": (options, 0.3),
    "odd settings, all steps": (runs, 0.04),
    "bad trajectories": (csv_files, 0.1),
    "bad weight files": (weights, 0.26),
}


def counted(holds: Callable[[], None], row: Row) -> Callable[[], None]:
    """The property, counting its cases: hypothesis gives up at the first failure."""
    case = holds.hypothesis.inner_test

    def one(*values: object, **named: object) -> None:
        row.tried += 1
        case(*values, **named)

    holds.hypothesis.inner_test = one
    return holds


def rows_of(profile: str, properties: Properties = PROPERTIES) -> list[Row]:
    """One row for each property, with as many cases in all as the profile says."""
    found = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for fault, (holds, share) in properties.items():
        row = Row(fault)
        try:
            chosen = settings(
                settings.get_profile(profile), max_examples=round(share * CASES[profile])
            )
            counted(chosen(holds), row)()
        # hypothesis tells the smallest case it found, several of them as a group
        except BaseException as e:
            for one in getattr(e, "exceptions", [e]):
                row.losses.append(
                    f"{type(one).__name__}: {one} {getattr(one, '__notes__', '')}"[:1500]
                )
        found.append(row)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found[-1].note = f"all of them: {grown / 1000:.0f} MB more memory"
    if grown > MEMORY:
        found[-1].losses.append(f"{grown:,} kB more memory")
    return found
