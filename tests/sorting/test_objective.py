"""The sorting model's objectives against the plain loss of the readable model, on the same draws.

Tolerance: both are float32 with other orders of summation. A chain of 30 small steps lets rounding
(1e-7 of a loss near 2) grow little, so losses agree to 2e-5 and squared norms to 1e-3 of their
value.
"""

import numpy as np
import pytest
import torch
from oracles import random_params

from devsort.sampling import LossObjective, minibatches, run_chains, sample
from devsort.sampling.config import SamplerConfig
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.model import losses, model_shape, param_shapes
from devsort.sorting.objective import Checkpoint, Minibatches, SortObjective, sort_kernels
from devsort.sorting.restrictions import restriction_mask
from devsort.sorting.task import Batch, eval_batch

CONFIG = SamplerConfig(
    geometry="absolute",
    lr=2e-5, n_beta=200, localization=30, prior=3, num_chains=3, num_draws=10, num_burnin_steps=10,
    num_steps_bw_draws=2, batch_size=8, seed=5,
)  # fmt: skip
LOSSES = ("loss", "init_loss", "burnin_loss", "burnin_init_loss", "rise")
SQUARES = ("force", "distance")
NAMES = ("full", "h0", "h1", "h1.qk", "h0.ov", "embed", "pos", "unembed", "norms", "*.b_O")


def setting(norm: bool = True, heads: int = 2, lists: int = 40):
    task = TaskConfig(list_length=4, numbers=9, eval_lists=lists)
    shape = model_shape(task, ModelConfig(heads=heads, d_model=12, d_head=5, layer_norm=norm))
    data = eval_batch(task)
    batches = Minibatches(data, minibatches(5, range(3), CONFIG.num_steps, 8, lists), {})
    return shape, random_params(param_shapes(shape), seed=1), batches


def fast(name: str, parts: dict | None = None, **changed):
    shape, params, batches = setting(**changed)
    batches = Minibatches(batches.data, batches.index, parts or {})
    kernels = sort_kernels(shape)
    checkpoint = Checkpoint(kernels[0], params, batches.data)
    objective = SortObjective(kernels, [checkpoint], name, batches)
    return run_chains(objective, CONFIG, [(c,) for c in range(3)])


def plain_loss(params, batch):
    return losses(params, *batch).mean()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", [True, False])
def test_a_restriction_gives_the_trace_of_the_plain_loss(name, norm):
    if name == "norms" and not norm:
        return
    shape, params, batches = setting(norm)
    data = (batches.data.tokens, batches.data.targets)
    expected = sample(plain_loss, params, data, CONFIG, mask=restriction_mask(name, shape))
    found = fast(name, norm=norm)
    assert found.dimension == expected.dimension
    for field in (*LOSSES, *SQUARES):
        tolerance = {"atol": 2e-5} if field in LOSSES else {"rtol": 1e-3}
        pair = (getattr(trace, field) for trace in (found, expected))
        np.testing.assert_allclose(*pair, **tolerance, err_msg=field)
    scale = np.sqrt(expected.force * expected.distance)
    assert (np.abs(found.work - expected.work) <= 1e-3 * scale + 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_rise_at_the_start_is_zero_to_rounding(name):
    # so many lists that what is frozen is computed in several parts
    assert np.abs(fast(name, lists=600).burnin_rise[:, 0]).max() < 2e-6


def test_parts_of_the_data_are_followed():
    small = torch.zeros(40, 4, dtype=torch.bool)
    small[:, :2] = True
    parts = {
        "all": torch.ones(40, 4, dtype=torch.bool),
        "first": small,
        "rest": ~small,
        "none": small & ~small,
    }
    trace = fast("full", parts)
    found = trace.parts
    np.testing.assert_allclose(found["all"], trace.rise, atol=1e-6)
    np.testing.assert_allclose((found["first"] + found["rest"]) / 2, trace.rise, atol=1e-6)
    assert np.isnan(found["none"]).all()
    assert np.abs(found["first"] - found["rest"]).max() > 1e-3


def test_a_part_is_the_plain_loss_on_its_lists():
    _, params, batches = setting()
    chosen = torch.arange(40) % 3 == 0
    trace = fast("full", {"third": chosen[:, None].expand(40, 4)})
    quiet = LossObjective(
        plain_loss, params, (batches.data.tokens, batches.data.targets), batches.index
    )
    assert trace.parts["third"].shape == trace.loss.shape
    # the parameters at the first kept draw, from a chain on the plain loss
    rows = batches.index[:, CONFIG.num_burnin_steps]
    w = weights_at(quiet, CONFIG.num_burnin_steps)
    for c in range(3):
        picked = rows[c][chosen[rows[c]]]
        batch = Batch(batches.data.tokens[picked], batches.data.targets[picked])
        moved = plain_loss(quiet.layout.views(w[c]), (batch.tokens, batch.targets))
        start = plain_loss(params, (batch.tokens, batch.targets))
        assert trace.parts["third"][c, 0] == pytest.approx(float(moved - start), abs=2e-5)


def weights_at(objective: LossObjective, step: int) -> torch.Tensor:
    """(C, P) parameters before a step."""
    seen = []

    class Spy:
        center = objective.center

        def __call__(self, w, step):
            seen.append(w.clone())
            return objective(w, step)

    run_chains(Spy(), CONFIG, [(c,) for c in range(3)])
    return seen[step]


def test_eight_heads():
    shape, params, batches = setting(heads=8)
    data = (batches.data.tokens, batches.data.targets)
    expected = sample(plain_loss, params, data, CONFIG, mask=restriction_mask("h7", shape))
    np.testing.assert_allclose(fast("h7", heads=8).loss, expected.loss, atol=2e-5)
