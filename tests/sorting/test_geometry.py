"""Relative geometry: scales of blocks, invariance chain by chain, and mutants that break it."""

from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
import torch

from devsort.errors import UserError
from devsort.sampling import minibatches, run_chains, sample
from devsort.sampling.config import SamplerConfig
from devsort.sampling.geometry import Block, Rescaled, block_scales, scale_change
from devsort.sorting import geometry as sorter_geometry
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.geometry import relative, sorter_scales
from devsort.sorting.model import ATTN, Params, forward, init_params, model_shape, param_shapes
from devsort.sorting.objective import Checkpoint, Minibatches, SortObjective, sort_kernels
from devsort.sorting.symmetries import (
    SCALINGS,
    basis,
    folded,
    has_norms,
    head_basis,
    lifted,
    permuted,
    random_move,
    scaled,
)
from devsort.sorting.task import sampling_set

CONFIG = SamplerConfig(
    geometry="relative", lr=2e-3, n_beta=100, localization=6, prior=0.5, num_chains=2, num_draws=12,
    num_burnin_steps=0, batch_size=8, sampling_method="sgld",
)  # fmt: skip
TASK = TaskConfig(list_length=4, numbers=11)
FACTORS = (0.2, 5.0)


def network(layer_norm: bool = True, heads: int = 2):
    """Random weights, no block of them zero, with a stream so large that layer norm's ε does not
    matter."""
    shape = model_shape(TASK, ModelConfig(heads=heads, d_model=16, d_head=8, layer_norm=layer_norm))
    params = init_params(shape, 0.8, 0)
    generator = torch.Generator().manual_seed(3)
    noisy = {n: p + 0.1 * torch.randn(p.shape, generator=generator) for n, p in params.items()}
    return shape, lifted(noisy) if layer_norm else noisy


def symmetry_moves(
    params: Params, factors: tuple[float, ...] = (0.2, 0.5, 2.0, 5.0), seed: int = 0
):
    """Each exact symmetry on its own: (name, weights), one after the other.

    Rotations of the residual basis are left out where a gain forbids them; see `basis` and
    `folded`.
    """
    H = len(params[ATTN + "W_Q"])
    generator = torch.Generator().manual_seed(seed)
    for factor in factors:
        for move in SCALINGS if has_norms(params) else SCALINGS[:3]:
            for head in range(H) if move in ("ov", "qk") else [None]:
                yield (
                    f"{move}{'' if head is None else head} × {factor:g}",
                    scaled(params, move, factor, head),
                )
    yield "heads reversed", permuted(params, list(range(H))[::-1])
    yield "head bases rotated", head_basis(params, generator)
    try:
        yield "residual basis rotated", basis(params, generator)
    except UserError:
        return


def chains(shape, params, name="full", config=CONFIG, key=0):
    kernels, data = sort_kernels(shape), sampling_set(TASK, 64)
    index = minibatches(
        config.seed, range(config.num_chains), config.num_steps, config.batch_size, 64
    )
    references = [Checkpoint(kernels[0], params, data)]
    objective = SortObjective(kernels, references, name, Minibatches(data, index, {}))
    if config.geometry == "relative":
        objective = sorter_geometry.relative(objective, references, shape)
    return run_chains(objective, config, [(key, c) for c in range(config.num_chains)])


def off(a, b) -> float:
    """Largest relative difference of all that two traces hold."""
    names = ("loss", "work", "force", "distance")
    pairs = [(getattr(a, n)[:, 1:], getattr(b, n)[:, 1:]) for n in names]
    return max(float(np.abs(x / y - 1).max()) for x, y in pairs)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_moves_leave_the_function_alone(layer_norm):
    _, params = network(layer_norm)
    tokens = sampling_set(TASK, 32).tokens
    expected = forward(params, tokens)
    for name, moved in symmetry_moves(params, FACTORS):
        torch.testing.assert_close(forward(moved, tokens), expected, atol=2e-4, rtol=1e-4, msg=name)
    for seed in range(5):
        told, moved = random_move(params, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(forward(moved, tokens), expected, atol=2e-4, rtol=1e-4, msg=told)


def test_folding_and_rotations_of_the_residual_basis_leave_the_function_alone():
    _, params = network()
    tokens = sampling_set(TASK, 32).tokens
    plain = folded(params)
    torch.testing.assert_close(
        forward(plain, tokens), forward(params, tokens), atol=2e-4, rtol=1e-4
    )
    turned = basis(plain, torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        forward(turned, tokens), forward(params, tokens), atol=2e-4, rtol=1e-4
    )
    with pytest.raises(UserError, match="not constant"):
        basis(params, torch.Generator())


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("name", ["full", "h1", "h0.ov", "embed"])
def test_a_chain_is_the_same_chain_after_each_scaling(layer_norm, name):
    shape, params = network(layer_norm)
    plain = chains(shape, params, name)
    moves = {n: p for n, p in symmetry_moves(params, FACTORS) if "×" in n}
    assert len(moves) == (14 if layer_norm else 10)
    worst = max((off(chains(shape, moved, name), plain), move) for move, moved in moves.items())
    assert worst[0] < 2e-3, worst


def test_in_absolute_geometry_it_is_not():
    shape, params = network()
    config = CONFIG.model_copy(update={"geometry": "absolute", "localization": 1000, "lr": 1e-5})
    plain = chains(shape, params, config=config)
    for move in ("stream", "ov", "qk", "ln1", "ln_final"):
        assert off(chains(shape, scaled(params, move, 5.0), config=config), plain) > 0.1, move


# --- mutants: each must break the invariance of some scaling ---


def one_scale_for_all_heads(**_):
    original = sorter_geometry.sorter_blocks

    def blocks(shape):
        return {n: Block(follows=b.follows, factor=b.factor) for n, b in original(shape).items()}

    return patch.object(sorter_geometry, "sorter_blocks", blocks)


def biases_that_do_not_follow(unit=0.0816):
    original = sorter_geometry.block_scales

    def scales(params, blocks):
        found = original(params, blocks)
        return {n: torch.full_like(s, unit) if ".b" in n else s for n, s in found.items()}

    return patch.object(sorter_geometry, "block_scales", scales)


def biases_that_follow_their_weight_alone(**_):
    original = sorter_geometry.sorter_blocks

    def blocks(shape):
        found = original(shape)
        return {n: Block(b.axis, b.parts, b.follows[:1], b.factor) for n, b in found.items()}

    return patch.object(sorter_geometry, "sorter_blocks", blocks)


class StepNotScaled(Rescaled):
    """The posterior in v, but drift and noise as if v were w: −(ε/2) s ∘ G_v/s, noise divided by
    the scale."""

    def __call__(self, v, step):
        loss, init_loss, grad, groups = super().__call__(v, step)
        return loss, init_loss, grad / self.scale[:, 0] ** 2, groups


class AbsoluteLocalization(Rescaled):
    """Localization left on w − w*: γ (w − w*)·s / 0.0816² instead of γ (v − v*)."""

    def __call__(self, v, step):
        loss, init_loss, grad, groups = super().__call__(v, step)
        ratio = (self.scale[:, 0] / 0.0816) ** 2 - 1
        pull = CONFIG.localization / CONFIG.n_beta * (v - self.center) * ratio
        return loss, init_loss, grad + pull, groups


MUTANTS = {  # name → (mutant, scalings that must change the chain)
    "one scale for all heads": (one_scale_for_all_heads, ("ov", "qk")),
    "biases of a fixed scale": (
        biases_that_do_not_follow,
        ("stream", "ov", "qk", "ln1", "ln_final"),
    ),
    "biases that follow the weight alone": (
        biases_that_follow_their_weight_alone,
        ("ln1", "ln_final"),
    ),
    "step not scaled": (
        lambda: patch.object(sorter_geometry, "Rescaled", StepNotScaled),
        ("stream", "ov", "qk", "ln1", "ln_final"),
    ),
    "absolute localization left in": (
        lambda: patch.object(sorter_geometry, "Rescaled", AbsoluteLocalization),
        ("stream", "ov", "qk", "ln1", "ln_final"),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_geometry_is_caught(name):
    mutant, moves = MUTANTS[name]
    shape, params = network()
    with ExitStack() as stack:
        stack.enter_context(mutant())
        plain = chains(shape, params)
        for move in moves:
            moved = scaled(params, move, 5.0, 0)
            assert not off(chains(shape, moved), plain) < 5e-3, move


# --- rotations and permutations keep the law, not the chain ---


def test_scales_do_not_change_under_rotations_and_follow_permuted_heads():
    shape, params = network()
    plain = sorter_scales(folded(params), shape)
    turned = sorter_scales(basis(folded(params), torch.Generator().manual_seed(0)), shape)
    for name, value in plain.items():
        torch.testing.assert_close(turned[name], value, rtol=1e-5, atol=0)
    moved = dict(symmetry_moves(params, FACTORS))["heads reversed"]
    for leaf in ("W_Q", "W_O", "b_K"):
        expected = sorter_scales(params, shape)[ATTN + leaf].flip(0)
        torch.testing.assert_close(sorter_scales(moved, shape)[ATTN + leaf], expected)


def test_scales_are_root_mean_squares_and_biases_follow():
    shape, params = network()
    s = sorter_scales(params, shape)
    per_head = params[ATTN + "W_Q"].square().mean((1, 2)).sqrt()
    gain = params["blocks.0.ln1.w"].square().mean().sqrt()
    torch.testing.assert_close(s[ATTN + "W_Q"][:, 3, 5], per_head)
    torch.testing.assert_close(s[ATTN + "b_Q"][:, 5], per_head * gain)
    torch.testing.assert_close(s[ATTN + "b_O"][0], params["embed.W_E"].square().mean().sqrt())
    assert (s["blocks.0.ln1.b"] == s["blocks.0.ln1.w"]).all()
    torch.testing.assert_close(s["blocks.0.ln1.w"][0], gain / 16**0.5)
    assert set(s) == set(param_shapes(shape)) and all((v > 0).all() for v in s.values())


def test_lanes_of_several_checkpoints_each_have_their_own_scales():
    shape, params = network()
    other = scaled(params, "ov", 3.0, 1)
    kernels, data = sort_kernels(shape), sampling_set(TASK, 64)
    references = [Checkpoint(kernels[0], p, data) for p in (params, other)]
    index = minibatches(0, range(2), CONFIG.num_steps, CONFIG.batch_size, 64)
    objective = SortObjective(kernels, references, "h1", Minibatches(data, index, {}))
    both = run_chains(relative(objective, references, shape), CONFIG, [(0, 0), (0, 1)] * 2)
    for part, alone in ((slice(0, 2), params), (slice(2, 4), other)):
        assert off(both.chains(part), chains(shape, alone, "h1")) < 2e-4


# --- any network ---


def test_blocks_of_any_network():
    params = {"0.weight": torch.full((4, 6), 2.0), "0.bias": torch.zeros(4), "g": torch.ones(3)}
    params["0.weight"][:2] = 4.0
    s = block_scales(params)
    assert float(s["0.bias"][0]) == float(s["0.weight"][0, 0])
    assert float(s["0.bias"][0]) == pytest.approx(10**0.5)
    s = block_scales(params, {"*.weight": Block(0, 2), "*.bias": Block(0, 2, ("0.weight", "g"))})
    assert s["0.bias"].tolist() == s["0.weight"][:, 0].tolist() == [4.0, 4.0, 2.0, 2.0]
    assert block_scales({"n.weight": torch.full((16,), 2.0)})["n.weight"].tolist() == [0.5] * 16
    numbers = (torch.arange(24) >= 20).long().view(4, 6)
    s = block_scales({"w": torch.arange(24.0).view(4, 6)}, {"w": numbers})
    assert s["w"][3, 2:].tolist() == pytest.approx(
        [(sum(i * i for i in range(20, 24)) / 4) ** 0.5] * 4
    )


def test_zeros_have_a_floor_and_wrong_blocks_are_told():
    params = {"a": torch.ones(4), "b": torch.full((2,), 3.0), "z": torch.zeros(2)}
    assert float(block_scales(params)["z"][0]) == pytest.approx(1e-4)
    for blocks, told in (
        ({"q": Block()}, "no parameter matches"),
        ({"a": Block(0, 3)}, "equal parts"),
        ({"a": Block(1)}, "equal parts"),
        ({"a": Block(follows=("x",))}, "is not a parameter"),
        ({"a": Block(follows=("b",)), "b": Block(follows=("a",))}, "circle"),
        ({"a": Block(0), "b": Block(0, follows=("a",))}, "the same blocks"),
        ({"a": torch.zeros(3)}, "have shape"),
    ):
        with pytest.raises(UserError, match=told):
            block_scales(params | {"c": torch.ones(1)}, blocks)
    with pytest.raises(UserError, match="zero or not finite at w"):
        sample(lambda p: p["w"] ** 2, {"w": torch.tensor(0.0)}, config=CONFIG)


def test_scale_change_is_the_largest_factor():
    _, params = network()
    assert scale_change([params, params])[0] == 1
    factor, name = scale_change([params, scaled(params, "ov", 3.0)])
    assert factor == pytest.approx(3, rel=1e-4)
    assert name.split(".")[-1] in ("W_V", "W_O", "b_V")


def test_relative_geometry_of_unit_scale_is_absolute_geometry():
    star = {"w": torch.tensor([1.0, -1.0]), "x": torch.tensor([[-1.0]])}
    rows = torch.tensor([[0.4, -1.0], [1.5, 0.3], [-0.7, 0.8], [0.2, 0.1]])

    def loss(p, r):
        return ((p["w"] - r) ** 4).sum(-1).mean() / 2 + p["x"].square().sum()

    config = CONFIG.model_copy(update={"batch_size": 2})
    absolute = config.model_copy(update={"geometry": "absolute"})
    a, b = (sample(loss, star, rows, c) for c in (config, absolute))
    for name in ("loss", "init_loss", "work", "force", "distance"):
        assert (getattr(a, name) == getattr(b, name)).all()


def test_weight_decay_as_a_prior_needs_absolute_geometry():
    with pytest.raises(UserError, match="set geometry: absolute"):
        SamplerConfig(geometry="relative", prior="weight_decay")
