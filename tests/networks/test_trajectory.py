"""The trajectory of a network: against each checkpoint alone, resumed, refused, described."""

import warnings

import numpy as np
import pytest
import torch
from folders import hashes, told
from gates import CONFIG, STEPS, X, loss, network, save, square

import devsort
from devsort.errors import Stale
from devsort.llc.describe import VARIABLES
from devsort.networks import sampler
from devsort.networks.trajectory import Options, llc_trajectory
from devsort.rng import name_key
from devsort.sampling import module_loss, sample

RESTRICTIONS = {"first": {"1.weight": (0, 0)}}
PARTS = {"even": list(range(0, 64, 2))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stored trajectory and its folder."""
    folder = tmp_path_factory.mktemp("made")
    save(folder / "checkpoints", "module.")
    return folder, trajectory(folder)


def trajectory(folder, **options):
    return llc_trajectory(
        loss(),
        folder / "checkpoints",
        X,
        CONFIG,
        restrictions=RESTRICTIONS,
        parts=PARTS,
        store=folder / "llc.zarr",
        options=Options(device="cpu", **options),
    )


def test_every_lane_is_that_of_the_checkpoint_alone(made):
    _, found = made
    for i, step in ((0, 1), (2, 100)):
        for name, mask in (("full", None), ("first", {"1.weight": torch.arange(4)[None] == 0})):
            own, params = module_loss(network(step), square)
            key = (step, name_key(name))
            cell = found.sel(checkpoint=step, restriction=name)
            prolonged = {
                "num_burnin_steps": int(cell.burnin_steps),
                "num_steps_bw_draws": int(cell.steps_bw_draws),
            }
            settled = CONFIG.model_copy(update=prolonged)
            alone = sample(own, params, X, settled, mask=mask, key=key, parts=PARTS)
            for array in ("loss", "init_loss", "distance"):
                np.testing.assert_allclose(
                    cell[array].values, getattr(alone, array), rtol=2e-4, atol=2e-5
                )
            np.testing.assert_allclose(
                cell.part_rise.sel(part="even").values, alone.parts["even"], rtol=2e-4, atol=2e-5
            )
            assert int(cell.dimension) == alone.dimension
            assert found.checkpoint.values[i] == step


def test_the_llc_counts_the_directions_that_the_loss_feels(made):
    """Each that it feels has d/2 · nβ h/(nβ h + γ) with h = 2 E[x²], up to the step."""
    _, found = made
    used = np.arange(1, len(STEPS) + 1)
    full = found.sel(restriction="full")
    assert (np.abs(full.llc.values - used / 2) < 4 * full.se.values + 0.15 * used).all()
    first = found.sel(restriction="first").llc.values
    assert (np.abs(first - 0.5) < 4 * found.sel(restriction="first").se.values + 0.1).all()


def test_buffers_belong_to_their_checkpoint(made):
    """The loss is zero at every checkpoint only with its own gate."""
    _, found = made
    assert found.checkpoint_loss.values.tolist() == [0] * len(STEPS)


def test_what_is_done_is_not_sampled_again(made, monkeypatch):
    folder, found = made
    before = hashes(folder / "llc.zarr")
    monkeypatch.setattr(sampler, "run_chains", None)
    assert trajectory(folder).equals(found)
    assert hashes(folder / "llc.zarr") == before


def test_a_trajectory_that_is_cut_short_goes_on_and_ends_with_the_same_bytes(tmp_path, made):
    folder, _ = made
    save(tmp_path / "checkpoints", "module.")
    original, calls = sampler.NetworkSampler.__call__, []

    def killed(self, job, advanced):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(job)
        return original(self, job, advanced)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(sampler.NetworkSampler, "__call__", killed)
        trajectory(tmp_path, processes=1)
    again = []

    def counted(self, job, advanced):
        again.append(job)
        return original(self, job, advanced)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sampler.NetworkSampler, "__call__", counted)
        trajectory(tmp_path, processes=1)
    assert len(calls) == 3 and len(again) == 2  # of two stacks, two restrictions each
    assert hashes(tmp_path / "llc.zarr") == hashes(folder / "llc.zarr")


def test_processes_give_the_same_draws(tmp_path, made, monkeypatch):
    folder, _ = made
    save(tmp_path / "checkpoints", "module.")
    monkeypatch.setattr(sampler, "ALONE", 0)
    trajectory(tmp_path, processes=2)
    assert hashes(tmp_path / "llc.zarr") == hashes(folder / "llc.zarr")


def test_without_a_store_the_draws_are_kept_in_memory(made):
    _, found = made
    states = {step: network(step).state_dict() for step in STEPS}
    given = dict(restrictions=RESTRICTIONS, parts=PARTS, options=Options(device="cpu"))
    alone = llc_trajectory(loss(), states, X, CONFIG, **given)
    assert alone.llc.equals(found.llc.load())


def other_loss(folder):
    return llc_trajectory(
        module_loss(network(1), lambda m, b: square(m, b) + 1)[0],
        folder / "checkpoints",
        X,
        CONFIG,
        restrictions=RESTRICTIONS,
        parts=PARTS,
        store=folder / "llc.zarr",
        options=Options(device="cpu"),
    )


def other_data(folder):
    return llc_trajectory(loss(), folder / "checkpoints", X + 1, CONFIG, store=folder / "llc.zarr")


@pytest.mark.parametrize("change", [other_loss, other_data])
def test_a_store_made_from_something_else_is_refused(made, change):
    folder, _ = made
    with pytest.raises(Stale) as e:
        change(folder)
    assert "llc_trajectory(…, options=Options(force=True))" in str(e.value)
    assert "was made from" in str(e.value)


def test_a_damaged_checkpoint_of_the_store_is_sampled_again(tmp_path, made):
    folder, _ = made
    save(tmp_path / "checkpoints", "module.")
    trajectory(tmp_path)
    (chunk,) = (p for p in (tmp_path / "llc.zarr/loss/c/2").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-3])
    assert "does not match its checksum at step 100" in told(
        devsort.load_trajectory, tmp_path / "llc.zarr"
    )
    trajectory(tmp_path)
    assert hashes(tmp_path / "llc.zarr") == hashes(folder / "llc.zarr")


def test_every_variable_says_what_it_is(made):
    folder, found = made
    assert set(map(str, found.variables)) <= set(VARIABLES)
    assert all(found[name].attrs["long_name"] == VARIABLES[name][0] for name in found.variables)
    assert found.llc.attrs["units"] == "1" and found.checkpoint.attrs["units"] == "steps"
    assert devsort.load_trajectory(folder).identical(found)
    assert devsort.load_trajectory(str(folder / "llc.zarr")).identical(found)


def test_a_table_has_one_row_a_checkpoint_and_restriction(made):
    _, found = made
    table = devsort.to_dataframe(found)
    assert len(table) == len(STEPS) * 2 and list(table.restriction.unique()) == ["full", "first"]
    row = table[(table.step == 100) & (table.restriction == "first")].iloc[0]
    cell = found.sel(checkpoint=100, restriction="first")
    assert row.llc == float(cell.llc) and row.se == float(cell.se)
    assert [row.ci95_low, row.ci95_high] == cell.ci95.values.tolist()
    assert row.llc_even == float(cell.part_llc.sel(part="even")) and row.loss == 0
    assert set(row["flags"].split(",")) == {
        str(f) for f in found.flag.values[cell["flags"].values]
    } | ({""} if not cell["flags"].any() else set())


def test_what_vmap_refuses_is_sampled_and_noted():
    def branching(model, batch):
        found = square(model, batch)
        return found if found.sum() >= 0 else -found

    with warnings.catch_warnings(action="ignore"):
        own = module_loss(network(1), branching)[0]
    states = {step: network(step).state_dict() for step in STEPS[:2]}
    found = llc_trajectory(own, states, X, CONFIG, options=Options(device="cpu"))
    assert any("vmap cannot map the loss" in note for note in found.attrs["notes"])
    expected = llc_trajectory(loss(), states, X, CONFIG, options=Options(device="cpu"))
    np.testing.assert_allclose(found.llc.values, expected.llc.values, rtol=1e-3)


def test_many_chains_are_cut_to_the_memory_that_is_given():
    states = {step: network(step).state_dict() for step in STEPS[:2]}
    config = CONFIG.model_copy(update={"num_chains": 40, "num_draws": 4, "num_burnin_steps": 0})
    whole = llc_trajectory(loss(), states, X, config, options=Options(device="cpu"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sampler, "STACKED", 7)
        patched.setattr(sampler.NetworkSampler, "stack", 1)
        part = llc_trajectory(loss(), states, X, config, options=Options(device="cpu"))
    np.testing.assert_allclose(part.loss.values, whole.loss.values, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("inside", ["llc.zarr", "llc.zarr/notes.txt"])
def test_what_is_no_store_is_never_removed(tmp_path, inside, force):
    states, path = {1: network(1).state_dict()}, tmp_path / "llc.zarr"
    (tmp_path / inside).parent.mkdir(exist_ok=True)
    (tmp_path / inside).write_text("mine")
    options = Options(device="cpu", force=force)
    call = lambda: llc_trajectory(loss(), states, X, CONFIG, store=path, options=options)  # noqa: E731
    message = f"{path} exists and is not a store of draws; give the store another name"
    assert told(call) == message and (tmp_path / inside).read_text() == "mine"


@pytest.mark.parametrize("device", ["cuda:7", "nowhere"])
def test_a_device_that_is_not_there_is_refused(device):
    states = {1: network(1).state_dict()}
    message = told(lambda: llc_trajectory(loss(), states, X, options=Options(device=device)))
    assert message.startswith(f"device {device!r} cannot be used (")
    assert message.endswith("; use auto or cpu")


def test_parts_of_tokens_are_followed_too():
    """Of the two tokens of an example the first has the loss and the second none."""

    def tokens(model, batch):
        own = square(model, batch)
        return torch.stack([2 * own, 0 * own], 1)

    states = {step: network(step).state_dict() for step in STEPS[:2]}
    first = torch.tensor([[True, False]]).expand(len(X), -1)
    found = llc_trajectory(
        module_loss(network(1), tokens)[0],
        states,
        X,
        CONFIG,
        parts={"first": first, "second": ~first},
        options=Options(device="cpu"),
    )
    np.testing.assert_allclose(
        found.part_llc.sel(part="first").values, 2 * found.llc.values, rtol=1e-4
    )
    assert (found.part_llc.sel(part="second").values == 0).all()
