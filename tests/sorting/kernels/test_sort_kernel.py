"""The hand-written kernels against autograd of the readable model, in double precision.

Tolerance: the kernels work in float32 (relative rounding 6e-8) and sum some thousand terms, so
values may be off by 2e-6, large ones by 3e-7 of their size, and each gradient by 1e-5 of the
largest entry of that parameter's gradient plus 5e-7: the gradient of b_K is a sum of terms that
cancel exactly, since a constant added to all scores of a query changes no attention.
"""

import pytest
import torch
from oracles import random_params

from devsort.layout import Layout
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.kernels import HeadKernel, SortKernel, lane_bytes, stack
from devsort.sorting.model import ATTN, Params, Shape, losses, model_shape, param_shapes
from devsort.sorting.task import Batch, train_batch

LANES, NUMBERS = 3, 9
FEW, MANY = 6, 25  # lists: fewer than tokens, so each answer is a query row; more, so each token is
CASES = [
    (heads, norm, length) for heads in (1, 2, 3, 8) for norm in (True, False) for length in (4,)
]
CASES += [(2, True, 2), (3, False, 2), (2, True, 7), (2, False, 9)]
CASES = [(*case, FEW) for case in CASES] + [
    (1, True, 4, MANY),
    (2, True, 7, MANY),
    (3, False, 4, MANY),
]
every_model = pytest.mark.parametrize(("heads", "norm", "length", "lists"), CASES)
every_build = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])


def setting(
    heads: int, norm: bool, length: int, lists: int = FEW
) -> tuple[Shape, list[Params], list[Batch]]:
    """Each lane has its own parameters and its own lists, with noisy targets.

    All dimensions are different.
    """
    task = TaskConfig(list_length=length, numbers=NUMBERS, label_noise=0.4)
    shape = model_shape(task, ModelConfig(heads=heads, d_model=12, d_head=5, layer_norm=norm))
    lanes = [random_params(param_shapes(shape), seed=g) for g in range(LANES)]
    return shape, lanes, [train_batch(task, g + 1, lists) for g in range(LANES)]


def oracle(params: Params, batch: Batch, free: tuple[str, ...]) -> tuple[torch.Tensor, Params]:
    """Mean loss and its gradient in float64, by autograd."""
    double = {name: value.double().requires_grad_(name in free) for name, value in params.items()}
    value = losses(double, batch.tokens, batch.targets).mean()
    gradients = torch.autograd.grad(value, [double[name] for name in free], allow_unused=True)
    return value.detach(), {
        n: torch.zeros_like(double[n]) if g is None else g
        for n, g in zip(free, gradients, strict=True)
    }


def assert_equal(found: Params, expected: Params, where: str) -> None:
    for name, value in expected.items():
        scale = float(value.abs().max())
        error = float((found[name].double() - value).abs().max())
        assert error <= 1e-5 * scale + 5e-7, (
            f"{where} {name}: off by {error:.1e}, largest entry {scale:.1e}"
        )


def stacked(batches: list[Batch]) -> Batch:
    return Batch(
        torch.stack([b.tokens for b in batches]), torch.stack([b.targets for b in batches])
    )


@every_build
@every_model
def test_value_and_gradient_of_every_parameter(heads, norm, length, lists, compiled):
    shape, lanes, batches = setting(heads, norm, length, lists)
    kernel = SortKernel(shape, compiled=compiled)
    flat = torch.stack([kernel.layout.flatten(p) for p in lanes])
    found, grad = kernel.value_and_grad(flat, stacked(batches))
    assert found.shape == (LANES, lists, length)
    for g, (params, batch) in enumerate(zip(lanes, batches, strict=True)):
        value, gradient = oracle(params, batch, tuple(param_shapes(shape)))
        assert float(found[g].mean()) == pytest.approx(float(value), rel=3e-7, abs=2e-6)
        assert_equal(kernel.layout.views(grad[g]), gradient, f"lane {g}")


@every_build
@every_model
def test_losses_alone_equal_those_with_a_gradient(heads, norm, length, lists, compiled):
    shape, lanes, batches = setting(heads, norm, length, lists)
    kernel = SortKernel(shape, compiled=compiled)
    flat = torch.stack([kernel.layout.flatten(p) for p in lanes])
    batch = stacked(batches)
    with_gradient = kernel.value_and_grad(flat, batch)[0].clone()
    assert torch.equal(kernel.losses(flat, batch), with_gradient)


@every_build
@every_model
def test_value_and_gradient_of_each_head_alone(heads, norm, length, lists, compiled):
    shape, lanes, batches = setting(heads, norm, length, lists)
    params, data = (
        lanes[0],
        Batch(*(torch.cat(t) for t in zip(*((b.tokens, b.targets) for b in batches), strict=True))),
    )
    kernel = HeadKernel(shape, compiled=compiled)
    # two lanes, lists that repeat
    index = torch.tensor([[0, 3, 3, 7], [17, 1, 2, 9]]).repeat(1, lists // 4)
    for head in range(heads):
        moved = [moved_head(params, head, seed) for seed in (5, 6)]
        flat = torch.stack([kernel.layout.flatten(one_head(p, head, kernel.layout)) for p in moved])
        frozen = kernel.freeze(SortKernel(shape), params, data, head)
        found, grad = kernel.value_and_grad(flat, data[index], frozen, index)
        for g, p in enumerate(moved):
            value, gradient = oracle(p, data[index[g]], tuple(kernel.layout.shapes))
            assert float(found[g].mean()) == pytest.approx(float(value), rel=3e-7, abs=2e-6)
            assert_equal(
                kernel.layout.views(grad[g]),
                {n: v[head] for n, v in gradient.items()},
                f"head {head} lane {g}",
            )


def test_heads_of_several_checkpoints_side_by_side():
    shape, lanes, batches = setting(2, True, 4)
    full, kernel, index = (
        SortKernel(shape),
        HeadKernel(shape),
        torch.tensor([[0, 3, 3, 5], [1, 1, 2, 4]]),
    )
    data = batches[0]
    frozen = [kernel.freeze(full, params, data, 1) for params in lanes]
    own = torch.stack([kernel.layout.flatten(one_head(p, 1, kernel.layout)) for p in lanes])
    apart = [
        [t.clone() for t in kernel.value_and_grad(w.expand(2, -1), data[index], f, index)]
        for w, f in zip(own, frozen, strict=True)
    ]
    offset = torch.arange(LANES).repeat_interleave(2)[:, None] * len(data)
    every = index.repeat(LANES, 1)
    together = kernel.value_and_grad(
        own.repeat_interleave(2, 0), data[every], stack(frozen, 2), every + offset
    )
    for which in (0, 1):
        expected = torch.cat([pair[which] for pair in apart])
        torch.testing.assert_close(together[which], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lists", [8, 32, 128])
def test_a_lane_takes_about_the_memory_that_is_reckoned(lists):
    task = TaskConfig()
    shape = model_shape(task, ModelConfig())
    kernel, lanes = SortKernel(shape, compiled=False), 3  # compiled functions need less
    params = (
        kernel.layout.flatten(random_params(param_shapes(shape), seed=0))
        .expand(lanes, -1)
        .contiguous()
    )
    batch = stacked([train_batch(task, g + 1, lists) for g in range(lanes)])
    kernel.value_and_grad(params, batch)
    held = kernel.buffers.nbytes / lanes
    chain = 5 * kernel.layout.size * 4  # w, w*, noise, w − w*, scratch
    assert held + chain == pytest.approx(lane_bytes(shape, lists), rel=0.15)


def one_head(params: Params, head: int, layout: Layout) -> Params:
    return {name: params[name][head] for name in layout.shapes}


def moved_head(params: Params, head: int, seed: int) -> Params:
    """The same network with other weights in one head; b_O belongs to no head."""
    other = random_params({name: tuple(p.shape) for name, p in params.items()}, seed)
    moved = {name: p.clone() for name, p in params.items()}
    for leaf in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V"):
        moved[ATTN + leaf][head] = other[ATTN + leaf][head]
    return moved


def test_a_lane_does_not_depend_on_its_neighbours():
    shape, lanes, batches = setting(2, True, 4)
    kernel = SortKernel(shape)
    flat = torch.stack([kernel.layout.flatten(p) for p in lanes])
    together = [t.clone() for t in kernel.value_and_grad(flat, stacked(batches))]
    for g in range(LANES):
        alone = kernel.value_and_grad(flat[g : g + 1], stacked(batches[g : g + 1]))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[g], rtol=1e-5, atol=1e-6)


def test_the_second_call_is_not_touched_by_the_first():
    # buffers are used again: a large minibatch of other lanes in between must leave no trace
    shape, lanes, batches = setting(3, True, 4)
    kernel = SortKernel(shape)
    flat = torch.stack([kernel.layout.flatten(p) for p in lanes])
    batch = stacked(batches)
    first = [t.clone() for t in kernel.value_and_grad(flat, batch)]
    big = train_batch(TaskConfig(list_length=4, numbers=NUMBERS), 5, 40)
    kernel.value_and_grad(
        flat.flip(0), Batch(*(t.expand(3, -1, -1) for t in (big.tokens, big.targets)))
    )
    for a, b in zip(kernel.value_and_grad(flat, batch), first, strict=True):
        assert torch.equal(a, b)
