"""Files that try to run something, to write outside of their folder, or to take all memory.

Refused, and not obeyed.
"""

import io
import os
import pickle
import resource
import struct
import tempfile
import zipfile
from pathlib import Path

import torch
from commands import devsort, last_line
from soak.report import Row

from runs import Smoke

MEMORY = 200_000  # kB by which a refusal may raise the peak
WEIGHTS = {"embed.W_E": torch.zeros(6, 4)}


class Exploit:
    """An object whose unpickling runs a shell command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def hostile_weights(folder: Path, canary: Path) -> dict[str, Path]:
    """Weight files of strangers, by what they try."""
    files = {
        name: folder / f"{name}.pt" for name in ("zipped pickle", "bare pickle", "reduce in a key")
    }
    torch.save({**WEIGHTS, "x": Exploit(canary)}, files["zipped pickle"])
    files["bare pickle"].write_bytes(pickle.dumps({**WEIGHTS, "x": Exploit(canary)}))
    torch.save({"x": {1: Exploit(canary)}}, files["reduce in a key"])
    whole = folder / "whole.pt"
    torch.save(WEIGHTS, whole)
    files["zip bomb"] = folder / "bomb.pt"
    with (
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(files["zip bomb"], "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, bytes(10**9) if name.endswith("data/0") else source.read(name))
    files["half tensors that share a byte"] = folder / "shared.pt"
    half = torch.zeros(2**20).half()
    torch.save({f"w{i}": half for i in range(20_000)}, files["half tensors that share a byte"])
    files["key of tuples in tuples"] = archive(folder / "deep.pt", whole, nested_key(64))
    files["storage that is short"] = archive(folder / "short.pt", whole, claims_more(whole))
    for name, header in HEADERS.items():
        files[name] = folder / f"{name}.safetensors"
        files[name].write_bytes(header)
    return files


def archive(path: Path, whole: Path, pickled: bytes) -> Path:
    """An archive of torch.save with another pickle in it."""
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith("data.pkl") else source.read(name))
    return path


def nested_key(depth: int) -> bytes:
    """A dict whose key is a tuple that holds one tuple twice, and so on.

    Hashing it takes 2^depth steps.
    """
    out = io.BytesIO()
    out.write(b"\x80\x02})" + b"q\x00")
    for i in range(depth):
        out.write(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]))
    return out.getvalue() + b"K\x01s."


def claims_more(whole: Path) -> bytes:
    """The pickle of a file of 24 numbers that claims a gigabyte."""
    with zipfile.ZipFile(whole) as source:
        data = next(source.read(name) for name in source.namelist() if name.endswith("data.pkl"))
    assert b"K\x18tq" in data
    return data.replace(b"K\x18tq", b"J\x00\x00\x00\x10tq")


def header(text: str, tail: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + tail


HEADERS = {
    "tensor of terabytes": header(
        '{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    ),
    "shape of terabytes": header(
        '{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,8]}}', bytes(8)
    ),
    "header of terabytes": struct.pack("<Q", 2**62) + b"{}",
    "header of nested lists": header('{"w":' + "[" * 50_000 + "]" * 50_000 + "}"),
}


def hostile_configs(canary: Path) -> dict[str, tuple[str, ...]]:
    """Arguments of `devsort config RUN`, or texts of a config.yaml.

    They try to run or to reach something.
    """
    tags = ("object/apply:os.system", "object/new:os.system", "name:os.system", "module:os")
    exploits = [f"!!python/{tag} ['touch {canary}']" for tag in tags]
    outside = f"../../{canary.name}"
    return {
        **{
            f"tag {i} in config.yaml": ("config", f"device: {text}")
            for i, text in enumerate(exploits)
        },
        **{
            f"tag {i} in --set": ("config", "", "--set", f"device={text}")
            for i, text in enumerate(exploits)
        },
        "../ as a restriction": ("llc", "", "--set", f"llc.restrictions=['{outside}']"),
        "../ as a part": ("llc", "", "--set", f"llc.parts=['{outside}']"),
        "../ as a signal": ("stages", "", "--set", f"stages.signals=['{outside}']"),
        "../ as a device": ("train", "", "--set", f"device={outside}"),
    }


LINKED = (
    *("config.yaml", ".lock", "training.jsonl", "stages.json", "checkpoints", "figures"),
    *("checkpoints/resume.safetensors", "checkpoints/.tmp-resume.safetensors"),
    *("llc.zarr", "llc.zarr/loss/c/0", "heads.zarr", "heads.parts"),
    *(".tmp-stages.json", ".tmp-heads.zarr"),
)


def refusals(smoke: Smoke) -> Row:
    """Every hostile file against the commands that would read it or write through it."""
    row = Row("hostile files")
    with tempfile.TemporaryDirectory(prefix="devsort-soak-") as scratch:
        folder, canary = Path(scratch), Path(scratch) / "canary"
        for name, path in hostile_weights(folder, canary).items():
            row.count(
                refused(
                    name, canary, "heads", "--weights", path, "--list-length", "2", "--numbers", "5"
                )
            )
        for name, (command, text, *options) in hostile_configs(canary).items():
            run = smoke.copy(folder)
            if text:
                (run / "config.yaml").write_text(text)
            row.count(refused(name, canary, command, run, *options))
    for name in LINKED:
        row.count(linked(smoke, name))
    return row


def refused(name: str, canary: Path, *arguments: str | Path) -> str | None:
    """What is wrong with a refusal.

    None if it is one line, in bounded memory, and nothing was run.
    """
    before = peak()
    try:
        result = devsort(*arguments)
    except Exception as e:
        return f"{name}: {type(e).__name__}: {e}"
    line = last_line(result.err)
    if result.code != 2 or not line.startswith("devsort: error: ") or result.out:
        return f"{name}: exit code {result.code}, it said {line[-200:]!r}"
    if canary.exists():
        return f"{name}: the canary is there"
    return f"{name}: took {peak() - before:,} kB" if peak() - before > MEMORY else None


def linked(smoke: Smoke, name: str) -> str | None:
    """A symbolic link in the place of an artifact.

    The file or folder outside must stay as it is.
    """
    with tempfile.TemporaryDirectory(prefix="devsort-soak-") as scratch:
        run, outside = smoke.copy(Path(scratch)), Path(scratch) / "outside"
        place = run / name
        if place.exists():
            place.rename(outside)
        else:
            outside.write_text("the user's own")
        place.symlink_to(outside)
        before = contents(outside)
        for command in ("train", "llc", "heads", "stages", "chart", "status"):
            for force in (
                ((), ("--force",)) if command in ("train", "llc", "heads", "stages") else ((),)
            ):
                if problem := refused(
                    f"{name} a link", Path(scratch) / "canary", command, run, *force
                ):
                    return problem
        return (
            None
            if contents(outside) == before and place.is_symlink()
            else f"{name}: written through the link"
        )


def contents(path: Path) -> dict[Path, bytes]:
    """Every file of a file or folder."""
    return {p: p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()}


def peak() -> int:
    """The most memory that this process has held, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
