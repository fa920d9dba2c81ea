"""llc.zarr: written checkpoint by checkpoint, resumed after kills, and never read unverified."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import Process, devsort, last_line, wait_until
from folders import hashes, told

from devsort.llc.store import BURNIN, DRAWN, OWN
from devsort.sorting import samplers
from devsort.sorting.artifacts import LLC
from devsort.sorting.checkpoints import load_checkpoint, save_checkpoint
from devsort.sorting.llc import run_llc
from devsort.sorting.run import Run, open_run
from runs import SMOKE_LLC

KEPT = ("checkpoints", "training.jsonl")  # what the llc step starts from


def read(run: Run):
    """The draws and the table as they lie on disk now."""
    return replace(run).read(LLC)


def whole_checkpoints(store: Path) -> int:
    """How many checkpoints are written, seen from another process."""
    try:
        return int((zarr.open_group(store, mode="r")["checksum"][:] != 0).sum())
    except Exception:  # the store is being made
        return 0


def times(store: Path) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def sampled_since(before: dict[Path, int], store: Path) -> list[int]:
    """Positions of the checkpoints whose draws were written since."""
    chunks = {path: when for path, when in times(store).items() if "loss" in path.parts}
    written = [
        path for path, when in chunks.items() if before.get(path) != when and "c" in path.parts
    ]
    return sorted(int(path.parts[path.parts.index("c") + 1]) for path in written)


# ---- kills and interrupts


def test_a_killed_run_goes_on_and_ends_with_the_bytes_of_the_other(smoke, tmp_path):
    folder = smoke.copy(tmp_path, *KEPT)
    store = folder / "llc.zarr"
    process = Process(tmp_path / "log", "llc", folder)
    killed = process.stop_when(lambda: whole_checkpoints(store) >= 2, signal.SIGKILL)
    done, before = whole_checkpoints(store), times(store)
    assert killed == -signal.SIGKILL and 2 <= done < 6
    assert devsort("llc", folder).code == 0
    assert len(sampled_since(before, store)) == 6 - done
    assert hashes(store) == hashes(smoke.path / "llc.zarr")


def test_ctrl_c_is_told_in_one_line_and_loses_no_checkpoint(smoke, tmp_path):
    folder = smoke.copy(tmp_path, *KEPT)
    store = folder / "llc.zarr"
    process = Process(tmp_path / "log", "llc", folder)
    assert process.stop_when(lambda: whole_checkpoints(store) >= 1, signal.SIGINT) == 130
    done, before = whole_checkpoints(store), times(store)
    saved = "of 6 checkpoints are sampled and saved, the same command goes on from there"
    message = last_line(process.log.read_text())
    # the signal may come after a checkpoint is written and before it is counted
    assert message in [f"devsort: interrupted; {n} {saved}" for n in (done - 1, done)]
    assert devsort("llc", folder).code == 0
    assert len(sampled_since(before, store)) == 6 - done < 6
    assert hashes(store) == hashes(smoke.path / "llc.zarr")


def test_sigterm_to_the_command_and_to_its_processes_is_told_as_one(smoke, tmp_path):
    """As a scheduler sends it: whoever hears it first, the command ends with 143."""
    folder = smoke.copy(tmp_path, *KEPT)

    def of_its_own_group_by_processes():
        os.setpgrp()
        samplers.ALONE = 0

    process = Process(tmp_path / "log", "llc", folder, prepare=of_its_own_group_by_processes)
    wait_until(lambda: whole_checkpoints(folder / "llc.zarr") >= 1)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    assert last_line(process.log.read_text()).startswith("devsort: terminated; ")


def test_what_is_done_is_not_sampled_again(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    before = times(run.llc)
    assert run_llc(run)["trajectory"] == smoke.values["llc"]["trajectory"]
    assert times(run.llc) == before


def test_force_samples_all_again_whatever_is_there(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    (run.llc / "zarr.json").write_text("{")
    small = open_run(run.path, ("llc.restrictions=[h1]", "llc.sampler.num_draws=4"))
    before = times(run.llc)
    assert len(run_llc(small, force=True)["trajectory"]) == 6
    assert sampled_since(before, run.llc) == list(range(6))


# ---- damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("name", "damage"), [("loss", flip), ("burnin_loss", cut), ("part_rise", Path.unlink)]
)
def test_a_damaged_chunk_is_noticed_and_its_checkpoint_sampled_again(smoke, tmp_path, name, damage):
    run = open_run(smoke.copy(tmp_path))
    (chunk,) = (p for p in (run.llc / name / "c" / "2").rglob("*") if p.is_file())
    damage(chunk)
    step = smoke.values["llc"]["trajectory"][6]["step"]  # three restrictions a checkpoint
    what = f"{run.llc} does not match its checksum at step {step}"
    assert told(read, run) == f"{what}; run `devsort llc {run.path}` to finish it"
    before = times(run.llc)
    assert run_llc(run)["trajectory"] == smoke.values["llc"]["trajectory"]
    assert sampled_since(before, run.llc) == [2]
    assert hashes(run.llc) == hashes(smoke.path / "llc.zarr")


def test_a_damaged_table_is_made_again_from_the_draws(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    zarr.open_group(run.llc, mode="r+")["se"][1] = 0.0
    unfinished = f"{run.llc} is unfinished; run `devsort llc {run.path}` to finish it"
    assert told(read, run) == unfinished
    before = times(run.llc)
    assert run_llc(run)["trajectory"] == smoke.values["llc"]["trajectory"]
    assert sampled_since(before, run.llc) == []
    assert hashes(run.llc) == hashes(smoke.path / "llc.zarr")


def break_metadata(store: Path) -> None:
    (store / "zarr.json").write_text("{")


def lose_an_array(store: Path) -> None:
    shutil.rmtree(store / "loss")


def empty_folder(store: Path) -> None:
    shutil.rmtree(store)
    store.mkdir()


def change_a_step(store: Path) -> None:
    zarr.open_group(store, mode="r+")["checkpoint"][1] += 1


@pytest.mark.parametrize("damage", [break_metadata, lose_an_array, empty_folder, change_a_step])
def test_a_store_that_cannot_be_opened_names_the_command(smoke, tmp_path, damage):
    run = open_run(smoke.copy(tmp_path))
    damage(run.llc)
    for use in (read, run_llc):
        message = told(use, run)
        assert message.startswith(f"{run.llc} is damaged (")
        assert message.endswith(f"); run `devsort llc {run.path} --force` to make it again")


def test_settings_that_are_not_those_of_the_config_make_no_table(smoke, tmp_path):
    """They stand beside the draws, for whoever reads them without a config."""
    run = open_run(smoke.copy(tmp_path))
    group = zarr.open_group(run.llc, mode="r+")
    group.update_attributes({"sampler": {**group.attrs["sampler"], "n_beta": 1.0}})
    assert told(run_llc, run).startswith(f"{run.llc} is damaged (")


# ---- what a store belongs to


def test_missing_and_unfinished_stores_are_named(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    group = zarr.open_group(run.llc, mode="r+")
    group["checksum"][4:] = 0  # as a kill leaves it
    group["loss"][4:] = np.nan
    del group.attrs["table"]
    finish = f"run `devsort llc {run.path}` to finish it"
    assert told(read, run) == f"{run.llc} is unfinished; {finish}"
    shutil.rmtree(run.llc)
    assert told(read, run) == f"{run.llc} is missing; run `devsort llc {run.path}` first"


def test_another_config_is_refused_and_nothing_lost(smoke, tmp_path):
    folder = smoke.copy(tmp_path)
    other = open_run(folder, ("llc.sampler.lr=0.00002",))
    changed = f"another config (llc.sampler.lr was {SMOKE_LLC['sampler']['lr']}, is 2e-05)"
    again = f"run `devsort llc {folder} --force` to discard it and make it again"
    undo = f"undo the change, as with `--set llc.sampler.lr={SMOKE_LLC['sampler']['lr']}`"
    message = f"{other.llc} was made from {changed}; {undo}, or {again}"
    assert told(read, other) == told(run_llc, other) == message
    assert hashes(other.llc) == hashes(smoke.path / "llc.zarr")
    read(open_run(folder, ("heads.lists=32",)))  # which the draws do not depend on


def test_other_checkpoints_are_refused(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    params = load_checkpoint(run, 300)
    save_checkpoint(run, 300, {**params, "pos_embed.W_pos": params["pos_embed.W_pos"] + 1e-6})
    again = f"run `devsort llc {run.path} --force` to discard it and make it again"
    message = f"{run.llc} was made from other inputs; {again}"
    assert told(read, run) == told(run_llc, run) == message


def test_a_truncated_checkpoint_is_named_and_the_draws_kept(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    cut(run.checkpoint(300))
    result = devsort("llc", run.path)
    assert result.code == 2
    message = last_line(result.err)
    assert message.startswith(f"devsort: error: {run.checkpoint(300)} is cut short or damaged (")
    assert message.endswith(f"; run `devsort train {run.path}` to make it again")
    assert hashes(run.llc) == hashes(smoke.path / "llc.zarr")


# ---- what a lane draws


def sampled_with(smoke, folder: Path, *overrides: str):
    folder.mkdir()
    run = open_run(smoke.copy(folder, *KEPT), overrides)
    run_llc(run)
    return run.read(LLC)


def test_a_lane_does_not_depend_on_what_else_is_sampled(smoke, tmp_path):
    """Its random numbers are the same.

    Results agree to float32 rounding, as tables of minibatches are padded.
    """
    everything = open_run(smoke.path).read(LLC)
    some = sampled_with(smoke, tmp_path / "some", "llc.max_checkpoints=2", "llc.restrictions=[h1]")
    assert list(some.restriction.values) == ["h1"]
    same = everything.sel(checkpoint=some.checkpoint.values, restriction=["h1"])
    for name in (*DRAWN, *BURNIN):
        found, expected = some[name].values, same[name].values
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5, err_msg=name)


def test_fewer_chains_are_the_first_of_more(smoke, tmp_path):
    everything = open_run(smoke.path).read(LLC)
    two = sampled_with(smoke, tmp_path / "two", "llc.sampler.num_chains=2", "llc.max_checkpoints=2")
    same = everything.sel(checkpoint=two.checkpoint.values, chain=[0, 1])
    # two may settle before all do
    alike = np.logical_and.reduce([(two[n] == same[n]).values for n in OWN])
    assert alike.any()
    np.testing.assert_allclose(
        two.loss.values[alike], same.loss.values[alike], rtol=2e-4, atol=2e-5
    )
    np.testing.assert_allclose(two.distance.values[alike], same.distance.values[alike], rtol=2e-4)


def test_chains_checkpoints_and_restrictions_have_noise_of_their_own(smoke):
    data = open_run(smoke.path).read(LLC)
    # (checkpoint, restriction, chain) |w − w*|², mostly noise
    first = data.distance.isel(draw=0).values
    assert len(np.unique(first)) == first.size
    # (restriction, chain, draw), of the minibatches alone
    start = data.init_loss.values
    own = np.stack([data[name].values for name in OWN], -1)  # settings that a cell came to have
    pairs = [(c, a, b) for c in range(len(start)) for a, b in ((0, 1), (0, 2), (1, 2))]
    alike = [(c, a, b) for c, a, b in pairs if (own[c, a] == own[c, b]).all()]
    assert alike
    for c, a, b in alike:
        np.testing.assert_allclose(start[c, a], start[c, b], atol=1e-6)  # shared by restrictions
    assert np.abs(start[-1, 0, 0] - start[-1, 0, 1]).max() > 1e-4  # not between chains


def test_the_value_of_the_command_is_the_table_of_the_store(smoke):
    data, rows = open_run(smoke.path).read(LLC), smoke.values["llc"]["trajectory"]
    assert json.loads(json.dumps(rows)) == rows and len(rows) == data.llc.size
    by_hand = 300 * (data.loss.astype(float) - data.init_loss).mean(["chain", "draw"])
    by_hand -= data.heating.astype(float).mean(["chain", "probe"])
    np.testing.assert_allclose([r["llc"] for r in rows], by_hand.values.ravel(), rtol=1e-9)


def test_sampled_twice_it_is_the_same_bytes(smoke, tmp_path):
    folder = smoke.copy(tmp_path, *KEPT)
    assert devsort("llc", folder).code == devsort("heads", folder).code == 0
    for name in ("llc.zarr", "heads.zarr"):
        assert hashes(folder / name) == hashes(smoke.path / name)
