"""llc.zarr: written checkpoint by checkpoint, resumed after kills, and never read unverified."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import HANG, Process, devsort, last_line

from devsort.errors import UserError
from devsort.llc import load_llc, run_llc, workers
from devsort.llc.store import BURNIN, DRAWN, Store
from devsort.sorting.run import Run, open_run

KEPT = ("checkpoints", "training.jsonl")  # what the llc step starts from


def arrays(store: Path) -> dict[str, np.ndarray]:
    """Everything in a store, draws and table."""
    group = zarr.open_group(store, mode="r")
    return {name: group[name][:] for name in sorted(group.array_keys())}


def assert_bitwise(store: Path, other: Path) -> None:
    a, b = arrays(store), arrays(other)
    assert a.keys() == b.keys() and set(DRAWN + BURNIN) < a.keys()
    assert [
        name for name in a if a[name].tobytes() != b[name].tobytes() and a[name].dtype.kind in "bif"
    ] == []
    assert [
        name
        for name in a
        if a[name].tolist() != b[name].tolist() and a[name].dtype.kind not in "bif"
    ] == []


def whole_checkpoints(store: Path) -> int:
    """How many checkpoints are written, seen from another process."""
    try:
        return int((zarr.open_group(store, mode="r")["checksum"][:] != 0).sum())
    except Exception:  # the store is being made
        return 0


@pytest.fixture
def sampled(monkeypatch) -> list[int]:
    """Positions of the checkpoints that are sampled, as they are written."""
    positions, write = [], Store.write

    def counting(self, position, traces):
        positions.append(position)
        write(self, position, traces)

    monkeypatch.setattr(Store, "write", counting)
    return positions


def started(run: Run, count: int) -> list[int]:
    """Makes a store with only the first `count` checkpoints whole, as a kill leaves it."""
    group = zarr.open_group(run.llc, mode="r+")
    group["checksum"][count:] = 0
    group["loss"][count:] = np.nan
    del group.attrs["table"]
    return list(range(count, len(group["checksum"][:])))


# ---- kills and interrupts


def test_a_killed_run_goes_on_and_ends_bitwise_where_the_other_does(smoke, tmp_path, sampled):
    folder = smoke.copy(tmp_path, *KEPT)
    store = folder / "llc.zarr"
    process = Process(tmp_path / "log", "llc", folder)
    assert (
        process.stop_when(lambda: whole_checkpoints(store) >= 2, signal.SIGKILL) == -signal.SIGKILL
    )
    done = whole_checkpoints(store)
    assert 2 <= done < 6
    assert devsort("llc", folder).code == 0
    assert len(sampled) == 6 - done
    assert_bitwise(store, smoke.path / "llc.zarr")


def test_ctrl_c_is_told_in_one_line_and_loses_no_checkpoint(smoke, tmp_path, sampled):
    folder = smoke.copy(tmp_path, *KEPT)
    store = folder / "llc.zarr"
    process = Process(tmp_path / "log", "llc", folder)
    assert process.stop_when(lambda: whole_checkpoints(store) >= 1, signal.SIGINT) == 130
    done = whole_checkpoints(store)
    saved = f"{done} of 6 checkpoints are sampled and saved"
    assert (
        last_line(process.log.read_text())
        == f"devsort: interrupted; {saved}, the same command goes on from there"
    )
    assert devsort("llc", folder).code == 0
    assert len(sampled) == 6 - done < 6
    assert_bitwise(store, smoke.path / "llc.zarr")


def test_sigterm_to_the_command_and_to_its_processes_is_told_as_one(smoke, tmp_path):
    """As a scheduler sends it: whoever hears it first, the command ends with 143."""
    folder = smoke.copy(tmp_path, *KEPT)
    store = folder / "llc.zarr"

    def of_its_own_group_by_processes():
        os.setpgrp()
        workers.ALONE = 0

    process = Process(tmp_path / "log", "llc", folder, prepare=of_its_own_group_by_processes)
    deadline = time.monotonic() + HANG
    while whole_checkpoints(store) < 1:
        assert time.monotonic() < deadline, process.log.read_text()
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    assert last_line(process.log.read_text()).startswith("devsort: terminated; ")


def test_what_is_done_is_not_sampled_again(smoke, tmp_path, sampled):
    run = open_run(smoke.copy(tmp_path))
    written = {p: os.stat(p).st_mtime_ns for p in run.llc.rglob("*")}
    assert run_llc(run)["trajectory"] == smoke.values["llc"]["trajectory"]
    assert sampled == [] and {p: os.stat(p).st_mtime_ns for p in run.llc.rglob("*")} == written


def test_force_samples_all_again_whatever_is_there(smoke, tmp_path, sampled):
    run = open_run(smoke.copy(tmp_path))
    (run.llc / "zarr.json").write_text("{")
    small = open_run(run.path, ("llc.restrictions=[h1]", "llc.sampler.num_draws=4"))
    assert len(run_llc(small, force=True)["trajectory"]) == 6
    assert sorted(sampled) == list(range(6))


# ---- damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("name", "damage"), [("loss", flip), ("burnin_loss", cut), ("rise_small-gaps", Path.unlink)]
)
def test_a_damaged_chunk_is_noticed_and_its_checkpoint_sampled_again(
    smoke, tmp_path, sampled, name, damage
):
    run = open_run(smoke.copy(tmp_path))
    (chunk,) = (p for p in (run.llc / name / "c" / "2").rglob("*") if p.is_file())
    damage(chunk)
    with pytest.raises(UserError) as e:
        load_llc(run)
    step = smoke.values["llc"]["trajectory"][6]["step"]  # three restrictions a checkpoint
    told = f"{run.llc} does not match its checksum at step {step}; run `devsort llc {run.path}` to finish it"
    assert str(e.value) == told
    assert run_llc(run)["trajectory"] == smoke.values["llc"]["trajectory"]
    assert sampled == [2]
    assert_bitwise(run.llc, smoke.path / "llc.zarr")


def test_a_damaged_table_is_made_again_from_the_draws(smoke, tmp_path, sampled):
    run = open_run(smoke.copy(tmp_path))
    zarr.open_group(run.llc, mode="r+")["se"][1] = 0.0
    with pytest.raises(UserError) as e:
        load_llc(run)
    assert str(e.value) == f"{run.llc} is unfinished; run `devsort llc {run.path}` to finish it"
    assert run_llc(run)["trajectory"] == smoke.values["llc"]["trajectory"] and sampled == []


def break_metadata(store: Path) -> None:
    (store / "zarr.json").write_text("{")


def lose_an_array(store: Path) -> None:
    shutil.rmtree(store / "loss")


def empty_folder(store: Path) -> None:
    shutil.rmtree(store)
    store.mkdir()


@pytest.mark.parametrize("damage", [break_metadata, lose_an_array, empty_folder])
def test_a_store_that_cannot_be_opened_names_the_command(smoke, tmp_path, damage):
    run = open_run(smoke.copy(tmp_path))
    damage(run.llc)
    for use in (load_llc, run_llc):
        with pytest.raises(UserError) as e:
            use(run)
        assert str(e.value).startswith(f"{run.llc} is damaged (")
        assert str(e.value).endswith(f"); run `devsort llc {run.path} --force` to make it again")


# ---- what a store belongs to


def refusal(use, run: Run) -> str:
    with pytest.raises(UserError) as e:
        use(run)
    return str(e.value)


def test_missing_and_unfinished_stores_are_named(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    started(run, 4)
    assert (
        refusal(load_llc, run)
        == f"{run.llc} is unfinished; run `devsort llc {run.path}` to finish it"
    )
    shutil.rmtree(run.llc)
    assert refusal(load_llc, run) == f"{run.llc} is missing; run `devsort llc {run.path}` first"


def test_another_config_is_refused_and_nothing_lost(smoke, tmp_path):
    folder = smoke.copy(tmp_path)
    other = open_run(folder, ("llc.sampler.lr=0.00002",))
    changed = "another config (llc.sampler.lr was 3e-05, is 2e-05)"
    told = (
        f"{other.llc} was made from {changed}; run `devsort llc {folder} --force` to make it again"
    )
    assert refusal(load_llc, other) == refusal(run_llc, other) == told
    assert_bitwise(other.llc, smoke.path / "llc.zarr")
    load_llc(open_run(folder, ("heads.lists=32",)))  # which the draws do not depend on


def test_other_checkpoints_are_refused(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    from devsort.sorting.run import load_checkpoint, save_checkpoint

    params = load_checkpoint(run, 300)
    save_checkpoint(run, 300, {**params, "pos_embed.W_pos": params["pos_embed.W_pos"] + 1e-6})
    told = f"{run.llc} was made from other inputs; run `devsort llc {run.path} --force` to make it again"
    assert refusal(load_llc, run) == refusal(run_llc, run) == told


def test_a_truncated_checkpoint_is_named_and_the_draws_kept(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    cut(run.checkpoint(300))
    result = devsort("llc", run.path)
    assert result.code == 2
    told = last_line(result.err)
    assert told.startswith(f"devsort: error: {run.checkpoint(300)} is cut short or damaged (")
    assert told.endswith(f"; run `devsort train {run.path}` to make it again")
    assert_bitwise(run.llc, smoke.path / "llc.zarr")


# ---- what a lane draws


def sampled_with(smoke, folder: Path, *overrides: str):
    folder.mkdir()
    run = open_run(smoke.copy(folder, *KEPT), overrides)
    run_llc(run)
    return load_llc(run)


def test_a_lane_does_not_depend_on_what_else_is_sampled(smoke, tmp_path):
    """Its random numbers are the same.

    Results agree to float32 rounding, as tables of minibatches are padded.
    """
    everything = load_llc(open_run(smoke.path))
    some = sampled_with(smoke, tmp_path / "some", "llc.max_checkpoints=2", "llc.restrictions=[h1]")
    assert list(some.restriction.values) == ["h1"]
    same = everything.sel(checkpoint=some.checkpoint.values, restriction=["h1"])
    for name in (*DRAWN, *BURNIN):
        np.testing.assert_allclose(
            some[name].values, same[name].values, rtol=2e-4, atol=2e-5, err_msg=name
        )


def test_fewer_chains_are_the_first_of_more(smoke, tmp_path):
    everything = load_llc(open_run(smoke.path))
    two = sampled_with(smoke, tmp_path / "two", "llc.sampler.num_chains=2", "llc.max_checkpoints=2")
    same = everything.sel(checkpoint=two.checkpoint.values, chain=[0, 1])
    np.testing.assert_allclose(two.loss.values, same.loss.values, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(two.distance.values, same.distance.values, rtol=2e-4)


def test_chains_checkpoints_and_restrictions_have_noise_of_their_own(smoke):
    data = load_llc(open_run(smoke.path))
    # (checkpoint, restriction, chain) |w − w*|², mostly noise
    first = data.distance.isel(draw=0).values
    assert len(np.unique(first)) == first.size
    # (restriction, chain, draw), of the minibatches alone
    start = data.init_loss.isel(checkpoint=-1).values
    np.testing.assert_allclose(start[0], start[1], atol=1e-6)  # shared between restrictions
    assert np.abs(start[0, 0] - start[0, 1]).max() > 1e-4  # not between chains


def test_the_value_of_the_command_is_the_table_of_the_store(smoke):
    data, rows = load_llc(open_run(smoke.path)), smoke.values["llc"]["trajectory"]
    assert json.loads(json.dumps(rows)) == rows and len(rows) == data.llc.size
    by_hand = 300 * (data.loss.astype(float) - data.init_loss).mean(["chain", "draw"])
    np.testing.assert_allclose([r["llc"] for r in rows], by_hand.values.ravel(), rtol=1e-9)
