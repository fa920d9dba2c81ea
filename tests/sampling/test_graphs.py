"""Steps replayed as a graph. Without a GPU, three things that a capture needs are tried on the CPU:

- The operations of one step, done again and again on the same memory by nothing but a list of them,
  give the chain of plain steps, bitwise: all that changes from step to step lies in tensors.
- On torch's device meta, which knows shapes but holds no numbers, everything that `devsort llc`
  does finds its tensors on the right device, and a step, once it has run a few times, neither reads
  from the host nor waits for it.
- A step that cannot be captured is told, and goes on plainly.

With a GPU, replayed chains are those of plain steps, to what its order of summation changes.
"""

import numpy as np
import pytest
import torch
from sorting.test_objective import CONFIG, setting
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from devsort.llc.trajectory import Job
from devsort.sampling import chains, graphs, run_chains
from devsort.sampling.geometry import Rescaled
from devsort.sampling.noise import IndexNoise
from devsort.sorting import samplers
from devsort.sorting.geometry import relative
from devsort.sorting.kernels import HeadKernel, SortKernel
from devsort.sorting.objective import Checkpoint, Minibatches, SortObjective
from devsort.sorting.run import open_run

RESTRICTIONS = ("full", "h1", "h0.ov")
GEOMETRIES = ("absolute", "relative")
CHECKPOINTS = (100, 300)


class Operations(TorchDispatchMode):
    """A list of operations with the memory that each read and wrote, to be done again as a CUDA
    graph does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for operation, args, kwargs, out in self.done:
            again = operation(*args, **kwargs)
            for old, new in zip(tensors(out), tensors(again), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def listed(step):
    """As `graphs.capture`, which does not run what it captures."""
    before = step.w.clone(), step.number.clone()
    with Operations() as operations:
        out = step()
    step.w.copy_(before[0])
    step.number.copy_(before[1])
    return operations, out


def chain(name: str, geometry: str = "absolute", device: str = "cpu"):
    """A chain at two checkpoints, following a part of the data, with noise by index."""
    shape, params, batches = setting()
    batches = Minibatches(
        batches.data.to(device), batches.index.to(device), {"some": some(batches).to(device)}
    )
    kernels = SortKernel(shape, device, compiled=False), HeadKernel(shape, device, compiled=False)
    places = [{k: (v * scale).to(device) for k, v in params.items()} for scale in (1, 0.9)]
    checkpoints = [Checkpoint(kernels[0], place, batches.data) for place in places]
    objective = SortObjective(kernels, checkpoints, name, batches)
    if geometry == "relative":
        objective = relative(objective, checkpoints, shape)
    return run_chains(objective, CONFIG, [(place, c) for place in range(2) for c in range(3)])


def some(batches: Minibatches) -> torch.Tensor:
    return batches.data.targets % 2 == 0


def arrays(trace) -> dict[str, np.ndarray]:
    named = {k: v for k, v in vars(trace).items() if isinstance(v, np.ndarray)}
    return named | trace.parts


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", RESTRICTIONS)
def test_a_list_of_operations_done_again_is_the_chain(monkeypatch, name, geometry):
    monkeypatch.setattr(chains, "lane_noise", IndexNoise)
    plain = chain(name, geometry)
    calls, original = [], SortObjective.__call__
    counted = lambda *args: calls.append(args) or original(*args)  # noqa: E731
    monkeypatch.setattr(SortObjective, "__call__", counted)
    monkeypatch.setattr(chains, "can_capture", lambda device: True)
    monkeypatch.setattr(graphs, "capture", listed)
    monkeypatch.setattr(graphs, "aside", lambda step: step())
    replayed = chain(name, geometry)
    assert len(calls) == graphs.PLAIN + 1 < CONFIG.num_steps
    found, expected = arrays(replayed), arrays(plain)
    assert found.keys() == expected.keys() >= {"loss", "work", "burnin_loss", "some"}
    for field in expected:
        np.testing.assert_array_equal(found[field], expected[field], err_msg=field)


def test_what_cannot_be_captured_is_told_once_and_goes_on(monkeypatch):
    def refuse(step):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(chains, "lane_noise", IndexNoise)
    plain = chain("full")
    monkeypatch.setattr(chains, "can_capture", lambda device: True)
    monkeypatch.setattr(graphs, "capture", refuse)
    monkeypatch.setattr(graphs, "aside", lambda step: step())
    with pytest.warns(UserWarning) as told:
        found = chain("full")
    assert [str(w.message) for w in told] == [
        "steps run without a graph, because they cannot be captured "
        "(operation not permitted when stream is capturing)"
    ]
    np.testing.assert_array_equal(found.loss, plain.loss)


class OnTheCard(TorchDispatchMode):
    """Refuses tensors of the host: within a capture a copy from or to it is an error."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for value in tensors((args, kwargs, out)):
            assert value.device.type == "meta", f"{operation} touches the host"
        return out


class Enough(Exception):
    pass


def of_unit_scales(objective, checkpoints, shape):
    """As `relative`, whose scales come from counts, which the device meta has not."""
    lanes = torch.ones_like(objective.center).unflatten(0, (len(checkpoints), -1))
    return Rescaled(objective, lanes[:, 0])


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", RESTRICTIONS)
def test_a_sampler_keeps_its_steps_on_the_device(smoke, monkeypatch, name, geometry):
    found = []

    def on_the_card(step):
        assert len(step.w) == len(CHECKPOINTS) * run.config.llc.sampler.num_chains
        with OnTheCard():
            found.append(step())
        raise Enough

    settings = ("llc.sampler.num_burnin_steps=0", f"llc.sampler.geometry={geometry}")
    run = open_run(smoke.path, settings)
    monkeypatch.setattr(samplers, "relative", of_unit_scales)
    monkeypatch.setattr(samplers, "resolve_device", lambda device: torch.device("meta"))
    monkeypatch.setattr(chains, "can_capture", lambda device: device.type == "meta")
    monkeypatch.setattr(graphs, "capture", on_the_card)
    monkeypatch.setattr(graphs, "aside", lambda step: step())
    with pytest.raises(Enough):
        samplers.SortSampler(run)(Job(CHECKPOINTS, name), lambda _: None)
    assert all(value.device.type == "meta" for value in tensors(found))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", RESTRICTIONS)
def test_on_a_gpu_a_replayed_chain_is_the_plain_one(monkeypatch, name, geometry, recwarn):
    replayed = arrays(chain(name, geometry, "cuda"))
    assert not [w for w in recwarn.list if "captured" in str(w.message)]
    monkeypatch.setattr(chains, "can_capture", lambda device: False)
    plain = arrays(chain(name, geometry, "cuda"))
    for field in ("loss", "init_loss", "burnin_loss", "burnin_init_loss"):
        np.testing.assert_allclose(replayed[field], plain[field], atol=2e-5, err_msg=field)
