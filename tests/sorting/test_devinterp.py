"""devinterp's sampler beside ours.

Bitwise the same rule without noise, the same λ̂ with it, and its file layout.
"""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from commands import devsort
from folders import told

from devsort.bench.trainers import hooked_transformer
from devsort.llc import estimate
from devsort.llc.store import Plan, open_store
from devsort.sampling import run_chains
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace
from devsort.sorting.artifacts import LLC, LLC_DEVINTERP
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.devinterp import SortModule, answer_loss, sample_with_devinterp
from devsort.sorting.geometry import relative, sorter_scales
from devsort.sorting.model import forward, losses, model_shape
from devsort.sorting.objective import Checkpoint, Minibatches, SortObjective, sort_kernels
from devsort.sorting.restrictions import restriction_mask
from devsort.sorting.run import open_run
from devsort.sorting.samplers import chance_loss, settings
from devsort.sorting.task import sampling_set

QUIET = SamplerConfig(
    geometry="absolute",
    lr=2e-3, n_beta=40.0, localization=30.0, prior=5.0, noise_level=0.0, num_chains=2, num_draws=3,
    num_burnin_steps=3, num_steps_bw_draws=2, batch_size=8,
)  # fmt: skip
QUIET_RELATIVE = QUIET.model_copy(
    update={"geometry": "relative", "lr": 4e-2, "localization": 4.0, "prior": 0.5}
)


@pytest.fixture(scope="module")
def trained(smoke):
    """The run and the weights of its last step."""
    run = open_run(smoke.path)
    return run, load_checkpoint(run, 300)


def ours(run, params, data, config: SamplerConfig, name: str):
    """Our chain on all of the data at every step."""
    shape = model_shape(run.config.task, run.config.model)
    kernels = sort_kernels(shape)
    index = torch.arange(len(data)).expand(config.num_chains, config.num_steps, -1)
    batches = Minibatches(data, index, {})
    states = [Checkpoint(kernels[0], params, data)]
    objective = SortObjective(kernels, states, name, batches)
    if config.geometry == "relative":
        objective = relative(objective, states, shape)
    return run_chains(objective, config, [(c,) for c in range(config.num_chains)])


def test_the_module_is_the_model_with_its_names(trained):
    run, params = trained
    module, data = SortModule(params), sampling_set(run.config.task, 16)
    assert list(dict(module.named_parameters())) == sorted(
        params, key=list(dict(module.named_parameters())).index
    )
    assert {n: tuple(p.shape) for n, p in module.named_parameters()} == {
        n: tuple(p.shape) for n, p in params.items()
    }
    assert torch.equal(module(data.tokens), forward(params, data.tokens))
    # devinterp takes the mean over all 2L tokens
    mean = answer_loss(module(data.tokens), data.tokens).mean()
    assert float(mean.detach()) == pytest.approx(
        float(losses(params, data.tokens, data.targets).mean()), rel=1e-6
    )


@pytest.mark.parametrize("config", [QUIET, QUIET_RELATIVE], ids=["absolute", "relative"])
@pytest.mark.parametrize("name", ["full", "h1"])
def test_without_noise_both_take_the_same_steps(trained, name, config):
    """Full batches and no noise leave the step rule.

    With localization, prior, mask, burn-in and thinning. In relative geometry devinterp samples the
    parameters of a module that are the weights in units of their scales.
    """
    run, params = trained
    data, shape = (
        sampling_set(run.config.task, QUIET.batch_size),
        model_shape(run.config.task, run.config.model),
    )
    mask = restriction_mask(name, shape)
    scales = sorter_scales(params, shape) if config is QUIET_RELATIVE else None
    theirs, mine = (
        sample_with_devinterp(
            params, data, config, mask, seed=3, module=SortModule(params, scales)
        ),
        ours(run, params, data, config, name),
    )
    assert np.ptp(mine.loss) > 5e-5  # the chain moves, by more than what is compared
    for field in ("loss", "init_loss", "burnin_loss", "burnin_init_loss"):
        a, b = getattr(theirs, field), getattr(mine, field)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6, err_msg=field)
    assert theirs.dimension == mine.dimension
    assert np.isnan(theirs.work).all() and theirs.work.shape == mine.work.shape


def test_on_transformer_lenss_model_it_takes_the_same_steps(trained):
    pytest.importorskip("transformer_lens")
    run, params = trained
    data, shape = (
        sampling_set(run.config.task, QUIET.batch_size),
        model_shape(run.config.task, run.config.model),
    )
    mask, hooked = restriction_mask("h1", shape), hooked_transformer(shape)
    hooked.load_state_dict(params, strict=False)
    found = sample_with_devinterp(params, data, QUIET, mask, seed=3, module=hooked)
    np.testing.assert_allclose(
        found.loss, sample_with_devinterp(params, data, QUIET, mask, seed=3).loss, atol=1e-6
    )


ABSOLUTE = ("llc.sampler.geometry=absolute", "llc.sampler.lr=3e-5", "llc.sampler.localization=300")
RELATIVE = ("llc.sampler.sampling_method=sgld", "llc.sampler.localization=20")


@pytest.mark.parametrize("geometry", [ABSOLUTE, RELATIVE], ids=["absolute", "relative"])
def test_the_command_agrees_with_ours_within_the_errors(smoke, tmp_path, geometry):
    folder = smoke.copy(tmp_path, "checkpoints")
    overrides = (
        *("llc.restrictions=[full]", "llc.first_step=100", "llc.max_checkpoints=2"),
        *geometry,
        *("llc.sampler.num_draws=60", "llc.sampler.num_burnin_steps=12"),
        "llc.sampler.batch_size=16",
    )
    arguments = [a for s in overrides for a in ("--set", s)]

    def trajectory(*more: str) -> list[dict]:
        return json.loads(devsort("llc", folder, *more, "--json", *arguments).out)["trajectory"]

    theirs, mine = trajectory("--sampler", "devinterp"), trajectory()
    cells = [[(r["step"], r["restriction"]) for r in rows] for rows in (theirs, mine)]
    assert cells[0] == cells[1]
    for a, b in zip(theirs, mine, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.3)  # on other minibatches
        assert abs(a["llc"] - b["llc"]) <= 2 * np.hypot(a["se"], b["se"])
        assert np.hypot(a["se"], b["se"]) < 0.2 * abs(b["llc"])  # else agreement would say nothing
    run = open_run(folder, overrides)
    assert run.read(LLC_DEVINTERP).attrs["inputs"] == run.read(LLC).attrs["inputs"]
    assert run.llc_devinterp.is_dir() and run.llc_devinterp != run.llc


def to_devinterp(trace: Trace) -> xr.DataTree:
    """Our draws in the layout of devinterp's `sample()`.

    `devinterp.slt.llc.compute_llc` makes our λ̂ of them.

    Its `compute_llc` averages every step; burn-in is therefore left out here. Losses are means over
    the minibatch, so the axes batch_sampling and token_pos have length one.
    """
    loss = trace.loss.astype(np.float64)  # its mean is taken in the type of the draws
    draws = {
        "sampling_loss_micro": (
            ("chain", "step", "batch_sampling", "token_pos"),
            loss[:, :, None, None],
        )
    }
    start = {
        "init_loss": (("chain", "token_pos"), trace.init_loss.astype(np.float64).mean(1)[:, None])
    }
    attrs = {"metadata": {"config": {"sampler": {"n_beta": trace.config.n_beta}}}}
    return xr.DataTree(xr.Dataset(draws | start, attrs=attrs))


def test_devinterp_reads_our_draws_and_gives_our_number(smoke):
    from devinterp.slt.llc import compute_llc

    run = open_run(smoke.path)
    store = open_store(run.llc, run.origin(LLC), Plan((), (), (), settings(run)))
    trace = store.traces(3)[1]
    found = estimate(trace, chance_loss=chance_loss(run))
    theirs = compute_llc(to_devinterp(trace))
    heated = found.llc + found.heat  # which they do not know of
    assert float(theirs["llc_mean"]) == pytest.approx(heated, rel=1e-6)
    assert float(theirs["llc_scalar"]) == pytest.approx(heated, rel=1e-6)
    assert found.llc == float(run.read(LLC).llc[3, 1])


def test_label_noise_is_refused(smoke, trained):
    task = trained[0].config.task.model_copy(update={"label_noise": 0.5})
    message = "--sampler devinterp does not support task.label_noise; leave out --sampler devinterp"
    data = sampling_set(task, 16)
    assert told(sample_with_devinterp, trained[1], data, QUIET, None, 0) == message


def test_a_step_is_told_once_and_our_own_look_at_the_start_is_not(trained):
    """The bench counts them: one loss a chain to begin with, then one a step."""
    calls = []
    data = sampling_set(trained[0].config.task, 8)
    sample_with_devinterp(trained[1], data, QUIET, None, 0, lambda: calls.append(1))
    assert len(calls) == QUIET.num_chains * (1 + QUIET.num_steps)


def test_what_is_raised_before_a_step_ends_the_sampling(trained):
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    data = sampling_set(trained[0].config.task, 8)
    with pytest.raises(KeyboardInterrupt):
        sample_with_devinterp(trained[1], data, QUIET, None, 0, stop)
    assert len(calls) == 3
