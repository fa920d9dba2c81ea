"""The compiled functions are built, take the place of torch, and agree with it on wide networks.

`test_sort_kernel.py` compares both with autograd, on narrow networks. Here residual streams are
wider than the vectors of the compiled loops, with and without a remainder. Both round differently,
in float32: the tolerances are those of that file.
"""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from oracles import random_params

from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.kernels import HeadKernel, SortKernel, compiled
from devsort.sorting.kernels.compiled import Compiled
from devsort.sorting.kernels.plain import Plain
from devsort.sorting.model import losses, model_shape, param_shapes
from devsort.sorting.task import Batch, train_batch
from devsort.sorting.trained import weights

needs_compiler = pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
LANES = 3


def wide(d_model: int, d_head: int, norm: bool, length: int = 5):
    task = TaskConfig(list_length=length, numbers=30)
    return task, model_shape(task, ModelConfig(d_model=d_model, d_head=d_head, layer_norm=norm))


def batch_of(task: TaskConfig, lists: int) -> Batch:
    each = [train_batch(task, g + 1, lists) for g in range(LANES)]
    return Batch(*(torch.stack([getattr(b, n) for b in each]) for n in ("tokens", "targets")))


def assert_close(found, expected) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


@needs_compiler
def test_the_functions_are_built():
    assert compiled.load() is not None


@needs_compiler
@pytest.mark.parametrize("lists", [4, 40])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("d_model", "d_head"), [(96, 48), (116, 17), (32, 16), (210, 3)])
def test_wide_networks(d_model, d_head, norm, lists):
    task, shape = wide(d_model, d_head, norm)
    lanes = [random_params(param_shapes(shape), seed=g) for g in range(LANES)]
    batch = batch_of(task, lists)
    found, expected = (
        SortKernel(shape, compiled=c).value_and_grad(
            torch.stack([SortKernel(shape).layout.flatten(p) for p in lanes]), batch
        )
        for c in (True, False)
    )
    assert_close(found, expected)


@needs_compiler
@pytest.mark.parametrize("step", [29, 6000])
def test_a_trained_network(step):
    """Confident answers, whose gradients are differences of nearly equal numbers."""
    task = TaskConfig()
    shape, params = model_shape(task, ModelConfig()), weights("baseline", step)
    flat = SortKernel(shape).layout.flatten(params).repeat(LANES, 1)
    batch = batch_of(task, 64)
    full = [SortKernel(shape, compiled=c).value_and_grad(flat, batch) for c in (True, False)]
    assert_close(*full)
    for head in (0, 1):
        index = torch.arange(LANES * 8).view(LANES, 8)
        data = Batch(batch.tokens.flatten(0, 1), batch.targets.flatten(0, 1))
        results = []
        for c in (True, False):
            one = HeadKernel(shape, compiled=c)
            own = one.layout.flatten({n: params[n][head] for n in one.layout.shapes})
            frozen = one.freeze(SortKernel(shape, compiled=c), params, data, head)
            moved = own.repeat(LANES, 1)
            results.append(one.value_and_grad(moved, data[index], frozen, index))
        assert_close(*results)


@needs_compiler
def test_a_lane_does_not_depend_on_its_neighbours():
    task, shape = wide(96, 48, True)
    kernel, batch = SortKernel(shape), batch_of(task, 20)
    flat = torch.stack(
        [kernel.layout.flatten(random_params(param_shapes(shape), seed=g)) for g in range(LANES)]
    )
    together = [t.clone() for t in kernel.value_and_grad(flat, batch)]
    for g in range(LANES):
        alone = kernel.value_and_grad(flat[g : g + 1], batch[slice(g, g + 1)])
        assert_close([t[0] for t in alone], [t[g] for t in together])


@needs_compiler
def test_small_losses_are_exact_to_rounding():
    """Late without decay most answers are right to 1e-4 nats, far below the size of the logits."""
    task = TaskConfig()
    shape, params = model_shape(task, ModelConfig()), weights("no-decay", 6000)
    batch = train_batch(task, 1, 256)
    with torch.no_grad():
        double = {name: value.double() for name, value in params.items()}
        exact = losses(double, batch.tokens, batch.targets)  # of each list
    kernel = SortKernel(shape)
    found = kernel.value_and_grad(kernel.layout.flatten(params)[None], batch[None])[0][0]
    assert float(exact.mean()) < 1e-3
    assert float((found.mean(1).double() - exact).square().mean().sqrt()) < 1e-7


@needs_compiler
def test_the_default_type_of_torch_does_not_matter():
    task, shape = wide(32, 16, True)
    kernel = SortKernel(shape)
    flat = kernel.layout.flatten(random_params(param_shapes(shape), seed=0)).repeat(LANES, 1)
    expected = kernel.losses(flat, batch_of(task, 4)).clone()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(kernel.losses(flat, batch_of(task, 4)), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@needs_compiler
def test_other_types_are_refused_rather_than_misread():
    task, shape = wide(32, 16, True)
    kernel, batch = SortKernel(shape), batch_of(task, 4)
    flat = kernel.layout.flatten(random_params(param_shapes(shape), seed=0)).repeat(LANES, 1)
    short = Batch(batch.tokens.int(), batch.targets)
    with pytest.raises(TypeError, match=r"take float32 and int64, not torch\.int32"):
        kernel.losses(flat, short)


def test_torch_takes_its_place(monkeypatch):
    """On another device, if it is asked for, for very wide lists, and where nothing was built."""
    shape = wide(8, 4, True)[1]
    assert isinstance(SortKernel(shape, "meta").ops, Plain)
    assert isinstance(SortKernel(shape, compiled=False).ops, Plain)
    large = TaskConfig(list_length=100, numbers=200)
    assert isinstance(SortKernel(model_shape(large, ModelConfig(d_model=4096))).ops, Plain)
    monkeypatch.setattr(compiled, "load", lambda: None)
    assert isinstance(SortKernel(shape).ops, Plain)


@needs_compiler
@pytest.mark.parametrize("suits", [0, 1])
def test_a_processor_with_narrow_vectors_uses_torch(suits, monkeypatch):
    library = SimpleNamespace(suits=lambda: suits)
    monkeypatch.setattr(compiled.ctypes, "CDLL", lambda _: library)
    compiled.load.cache_clear()
    try:
        assert compiled.load() is (library if suits else None)
    finally:
        compiled.load.cache_clear()


@needs_compiler
def test_what_an_older_source_made_is_not_used(tmp_path, monkeypatch):
    built, source = Path(compiled.load()._name), Path(compiled.__file__).with_suffix(".c")
    for path in (built, source):
        shutil.copy(path, tmp_path / path.name)
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    compiled.load.cache_clear()
    try:
        os.utime(tmp_path / "compiled.c", (0, 0))
        assert isinstance(SortKernel(wide(8, 4, True)[1]).ops, Compiled)
        compiled.load.cache_clear()
        os.utime(tmp_path / built.name, (0, 0))
        os.utime(tmp_path / "compiled.c", (9, 9))
        assert isinstance(SortKernel(wide(8, 4, True)[1]).ops, Plain)
    finally:
        compiled.load.cache_clear()
