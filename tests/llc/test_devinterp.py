"""Draws of devinterp: estimates with errors, and what they cannot tell."""

import numpy as np
import pytest
import xarray as xr
from folders import told

from devsort.llc.devinterp import from_devinterp
from devsort.rng import stream

N_BETA, MEAN = 100.0, 0.05  # so λ = 5


def draws(shared: bool = True, burnin: int = 50, chains: int = 4, steps: int = 450) -> xr.DataTree:
    """Chains without memory whose excess loss is exponential, on batches of noisy examples."""
    rng = stream(0, "devinterp")
    ids = rng.integers(0, 1000, (1 if shared else chains, steps, 8, 4))
    ids = np.broadcast_to(ids, (chains, steps, 8, 4))
    rise = rng.exponential(MEAN, (chains, steps))
    rise[:, :burnin] = 0.0
    loss = at_start(ids) + rise[:, :, None, None]
    names = ("chain", "step", "batch_sampling", "token_pos")
    probe = rng.integers(0, 1000, (24, 4))
    data = {
        "sampling_loss_micro": (names, loss),
        "sampling_input_ids_micro": ((*names[:3], "token"), ids),
        "init_loss": (("chain", "token_pos"), np.full((chains, 3), 2.0 + 0.01)),
        "loss_code": (
            ("chain", "draw", "batch_code", "token_pos"),
            at_start(probe) + rise[:, burnin:, None, None] / 2,
        ),
        "input_ids_code": (("batch_code", "token"), probe),
    }
    sampler = {
        "n_beta": N_BETA,
        "lr": 1e-4,
        "localization": 1.0,
        "num_burnin_steps": burnin,
        "num_init_loss_batches": 32,
        "match_sampling_input_ids_across_chains": shared,
        "sampling_method": "sgmcmc_sgld",
    }
    return xr.DataTree(xr.Dataset(data, attrs={"metadata": {"config": {"sampler": sampler}}}))


def at_start(ids: np.ndarray) -> np.ndarray:
    """Losses (…, 3) around 2 that depend on the ids (…, 4) alone."""
    return 2.0 + np.sin(ids[..., :3] * 12.9898)


def test_paired_draws_give_the_exact_llc_without_the_noise_of_batches():
    found = from_devinterp(draws(), at_start)
    assert list(found.estimates) == ["sampling", "code"]
    for name, exact in (("sampling", N_BETA * MEAN), ("code", N_BETA * MEAN / 2)):
        e = found.estimates[name]
        assert e.llc == pytest.approx(exact, abs=4 * e.se)
        # of 1600 independent exponential draws
        assert e.se == pytest.approx(exact / np.sqrt(1600), rel=0.5)
        assert e.flags == () and e.rhat < 1.05


@pytest.mark.parametrize("shared", [True, False])
def test_the_error_of_unpaired_draws_holds_the_noise_of_batches(shared):
    found = from_devinterp(draws(shared))
    e = found.estimates["sampling"]
    assert list(found.estimates) == ["sampling"]
    rows = np.sqrt(np.var(np.sin(np.arange(1000) * 12.9898)) / (3 * 8))  # of a batch's mean
    batches = 400 if shared else 1600
    expected = N_BETA * np.hypot(rows / np.sqrt(batches), rows / np.sqrt(32))
    assert e.se == pytest.approx(np.hypot(expected, N_BETA * MEAN / 40), rel=0.4)
    assert e.llc == pytest.approx(N_BETA * (MEAN - 0.01), abs=4 * e.se)


def test_what_cannot_be_known_is_said():
    notes = "\n".join(from_devinterp(draws()).notes)
    for words in ("on other batches", "no initial loss of code", "the same batches", "burn-in"):
        assert words in notes
    paired = "\n".join(from_devinterp(draws(shared=False, burnin=0), at_start).notes)
    for words in ("on other batches", "no initial loss", "the same batches", "burn-in"):
        assert words not in paired


def test_a_dead_chain_withholds_the_estimate():
    tree = draws()
    tree["sampling_loss_micro"].values[2, 300:] = np.nan
    e = from_devinterp(tree).estimates["sampling"]
    assert e.chains_failed == 1 and np.isnan(e.llc) and "dead_chains" in e.flags


def test_devinterps_own_value_is_told_beside_it():
    from devinterp.slt.llc import compute_llc

    tree = draws()
    theirs = float(compute_llc(tree).llc_mean)
    found = from_devinterp(tree)
    assert found.devinterp_llc == pytest.approx(theirs)
    assert f"devinterp says       {theirs:9.2f}" in str(found)


@pytest.mark.parametrize("what", ["nowhere.zarr", xr.DataTree(xr.Dataset()), 3])
def test_what_is_none_of_its_draws_is_refused(what):
    message = told(from_devinterp, what)
    assert message.startswith("these are not draws of devinterp (")
    assert message.endswith(
        "give the DataTree of devinterp.slt.sampling.sample(), or the path of its output"
    )


def test_draws_that_devinterp_itself_wrote(tmp_path):
    """A table of bigrams, sampled by devinterp, read from its folder and paired."""
    import torch
    from datasets import Dataset
    from devinterp.slt.sampling import sample
    from torch.nn import functional as F

    rows = stream(0, "bigrams").integers(0, 5, (64, 7))
    counts = np.zeros((5, 5)) + 0.5
    np.add.at(counts, (rows[:, :-1].ravel(), rows[:, 1:].ravel()), 1)
    model = torch.nn.Embedding(5, 5)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(np.log(counts)).float())

    def losses(module, ids):
        return F.cross_entropy(module(ids[:, :-1]).mT, ids[:, 1:], reduction="none")

    def start(ids):
        with torch.no_grad():
            return losses(model, torch.from_numpy(ids)).numpy()

    data = Dataset.from_dict({"input_ids": rows}).with_format("torch")
    sample(
        model,
        data,
        observables={"probe": (data, 2)},
        lr=1e-3,
        n_beta=200.0,
        localization=1.0,
        num_chains=2,
        num_draws=20,
        num_burnin_steps=5,
        batch_size=8,
        loss_fn=losses,
        device="cpu",
        output_path=tmp_path / "draws.zarr",
    )
    found = from_devinterp(tmp_path / "draws.zarr", start)
    tree = xr.open_datatree(tmp_path / "draws.zarr", engine="zarr", consolidated=False)
    ids = tree["sampling_input_ids_micro"].values[:, 5:]
    loss = tree["sampling_loss_micro"].values[:, 5:].astype(float)
    own = start(ids.reshape(-1, 7)).reshape(loss.shape)
    assert found.estimates["sampling"].llc == pytest.approx(200 * (loss - own).mean(), rel=1e-5)
    probe = tree["loss_probe"].values.mean() - start(tree["input_ids_probe"].values).mean()
    assert found.estimates["probe"].llc == pytest.approx(200 * probe, rel=1e-4)
    assert any("burn-in" in note for note in found.notes)
