"""Modules as people have them: each works, or is refused in one sentence, and none is changed."""

import random
import threading
import warnings
from collections.abc import Callable, Iterator

import cloudpickle
import numpy as np
import pytest
import torch
from folders import told
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from devsort.llc import estimate
from devsort.rng import short_torch_stream
from devsort.sampling import LossObjective, SamplerConfig, minibatches, module_loss, sample
from devsort.validation.formulas import regression_with_minibatches

SHORT = SamplerConfig(
    geometry="absolute", lr=1e-4, num_chains=2, num_draws=3, num_burnin_steps=1, batch_size=4
)
X = torch.randn(20, 3, generator=short_torch_stream(0, "test"))


class Counting(nn.Linear):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Tied(nn.Module):
    """An embedding that is the unembedding too."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(3, 2, bias=False), nn.Linear(2, 3)
        self.decode.weight = nn.Parameter(self.encode.weight.detach().T.clone())
        self.again = nn.Linear(3, 2, bias=False)
        self.again.weight = self.encode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x) + self.again(x.tanh()))


class Branching(nn.Linear):
    """A branch on a value, for which vmap has no rule."""

    def __init__(self) -> None:
        super().__init__(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if y.sum() > 0 else -y


class Recurrent(nn.Module):
    """An LSTM, for which vmap has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x[..., None])[0]


class Checkpointed(nn.Module):
    """Activations are computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda x: self.inner(x).tanh(), x, use_reentrant=False)


class Attention(nn.Module):
    """Attention with a mask, behind an `if` as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.MultiheadAttention(1, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., None]
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        if mask.any():
            return self.inside(x, x, x, attn_mask=mask, need_weights=False)[0]
        return x


class Rotating(nn.Linear):
    """A complex buffer, as rotary embeddings have."""

    def __init__(self) -> None:
        super().__init__(3, 2, bias=False)
        self.register_buffer("turn", torch.tensor([1j, 0.6 + 0.8j]))

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) * self.turn).imag


class Remembering(nn.Linear):
    """Keeps its results, which belong to a graph."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        self.kept: list[Tensor] = []
        self.last = self(X)

    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        self.kept.append(self.last)
        return self.last


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):  # torch has a newer one
        return nn.utils.weight_norm(nn.Linear(3, 2))


def shared() -> nn.Module:
    act = nn.PReLU()
    return nn.Sequential(nn.Linear(3, 3), act, nn.Linear(3, 1), act)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "a layer used twice": shared,
    "a counter in a buffer": Counting,
    "tied weights": Tied,
    "dropout": lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 1)),
    "batch norm": lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)),
    "batch norm without running statistics": lambda: nn.Sequential(
        nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)
    ),
    "a branch": Branching,
    "an LSTM": Recurrent,
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
    "weight norm as it was": old_weight_norm,
    "kept results": Remembering,
    "a complex buffer": Rotating,
    "attention behind a branch": Attention,
    "a layer of a transformer": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 1)), nn.TransformerEncoderLayer(1, 1, 2, batch_first=True)
    ),
    "float64": lambda: nn.Linear(3, 2).double(),
    "compiled": lambda: torch.compile(nn.Linear(3, 2)),
}


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The module with weights of its own seed, in training mode, with a gradient."""
    module = make()
    rng = short_torch_stream(1, "test")
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=rng))
            p.grad = torch.ones_like(p)
    return module.train()


def squares(model: Callable, batch: Tensor) -> Tensor:
    return model(batch).square().flatten(1).mean(1)


def everything(module: nn.Module) -> list:
    """All of a module that sampling could change."""
    tensors = [*module.parameters(), *module.buffers()]
    values = [t.detach().clone() for t in tensors]
    grads = [p.grad.clone() for p in module.parameters()]
    modes = [m.training for m in module.modules()]
    return [tensors, values, grads, modes, [type(t) for t in tensors]]


def same(a: list, b: list) -> bool:
    (ta, *va), (tb, *vb) = a, b
    equal = all(
        torch.equal(x, y) if isinstance(x, Tensor) else x == y
        for one, two in zip(va, vb, strict=True)
        for x, y in zip(one, two, strict=True)
    )
    return equal and all(x is y for x, y in zip(ta, tb, strict=True))


def drawn_state() -> list:
    """The states of the generators that all code shares."""
    legacy = np.random.get_state()  # noqa: NPY002  it is read alone
    return [torch.get_rng_state().tolist(), legacy[1].tolist(), random.getstate()]


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(action="ignore"):
        yield


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_sampled_and_nothing_of_it_is_changed(name, quiet):
    module = seeded(MODULES[name])
    before = everything(module)
    before_drawn = drawn_state()
    loss, params = module_loss(module, squares)
    trace = sample(loss, params, X, SHORT)
    assert (trace.distance[:, -1] > 0).all() and np.isfinite(trace.loss).all()
    assert trace.dimension == sum(p.numel() for p in set(module.parameters()))
    assert same(before, everything(module))
    assert before_drawn == drawn_state()
    used = getattr(module, "_orig_mod", module)  # it still works
    assert torch.isfinite(squares(used, X.to(params[min(params)].dtype))).all()


@pytest.mark.parametrize("name", [n for n in MODULES if n != "compiled"])
def test_losses_and_gradients_are_those_of_torch_on_the_module_itself(name, quiet):
    module = seeded(MODULES[name])
    loss, params = module_loss(module, squares)
    index = minibatches(0, range(2), 3, 4, len(X))
    objective = LossObjective(loss, params, X, index)
    value, init, grad, _ = objective(objective.center, 1)
    module.eval().zero_grad()
    batch = X[index[1, 1]].to(grad.dtype)
    expected = squares(module, batch).mean()
    expected.backward()
    own = {n: p.grad for n, p in module.named_parameters()}
    torch.testing.assert_close(value[1], expected.detach())
    torch.testing.assert_close(init[1], expected.detach())
    torch.testing.assert_close(grad[1], objective.layout.flatten(own))


@pytest.mark.parametrize("name", ["an LSTM", "a branch"])
def test_what_vmap_refuses_is_computed_one_chain_after_the_other_with_a_note(name):
    loss, params = module_loss(seeded(MODULES[name]), squares)
    told_why = "chains are computed one by one, because vmap cannot map the loss"
    with pytest.warns(UserWarning, match=told_why):
        sample(loss, params, X, SHORT)


@pytest.mark.parametrize("name", ["attention behind a branch", "a layer of a transformer"])
def test_attention_is_mapped(name, quiet):
    loss, params = module_loss(seeded(MODULES[name]), squares)
    assert LossObjective(loss, params, X, minibatches(0, range(2), 3, 4, 20)).traits.refusal == ""
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_loss_that_was_used_goes_to_another_process(quiet):
    loss, params = module_loss(seeded(Remembering), squares)
    first = sample(loss, params, X, SHORT)
    again = sample(cloudpickle.loads(cloudpickle.dumps(loss)), params, X, SHORT)
    assert np.array_equal(first.loss, again.loss)


def test_a_loop_over_chains_gives_the_draws_of_vmap(quiet):
    module = seeded(MODULES["dropout"])
    loss, params = module_loss(module, squares)
    mapped = sample(loss, params, X, SHORT)

    def refused(p, batch):
        found = loss(p, batch)
        return found if found.sum() > -1 else -found  # vmap has no rule for a branch

    with pytest.warns(UserWarning):
        looped = sample(refused, params, X, SHORT)
    np.testing.assert_allclose(looped.loss, mapped.loss, rtol=1e-5)
    np.testing.assert_allclose(looped.force, mapped.force, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("dropout", "the module is sampled in evaluation mode: no dropout, running statistics"),
        ("batch norm", "the module is sampled in evaluation mode: no dropout, running statistics"),
    ],
)
def test_training_mode_is_not_sampled_and_that_is_said(name, note):
    with pytest.warns(UserWarning, match=note):
        loss, params = module_loss(seeded(MODULES[name]), squares)
    assert loss.notes == (note,)
    module = seeded(MODULES[name]).eval()
    torch.testing.assert_close(loss(params, X), squares(module, X).detach())


# ---- frozen parameters


def frozen() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    net = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
        net[0].bias.fill_(0.3)
        net[1].weight.fill_(1.0)
    net[0].requires_grad_(False)
    return net, (X, net(X).detach())


def error(model: Callable, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1])[:, 0].square()


def test_what_is_frozen_stays_frozen_unless_it_is_named():
    net, data = frozen()
    loss, params = module_loss(net, error)
    for mask, dimension in ((None, 1), ({"1.weight": None}, 1), ({"0.weight": None}, 3)):
        assert sample(loss, params, data, SHORT, mask=mask).dimension == dimension


def test_the_llc_of_what_is_left_free_is_the_exact_one():
    net, data = frozen()
    loss, params = module_loss(net, error)
    config = SamplerConfig(
        geometry="absolute",
        n_beta=500,
        lr=2e-4,
        localization=1,
        num_chains=40,
        num_draws=300,
        num_burnin_steps=100,
        batch_size=20,
    )
    found = estimate(sample(loss, params, data, config))
    rows = data[1].double().numpy()
    halves = config.model_copy(update={"n_beta": 2 * config.n_beta})
    exact = regression_with_minibatches(rows, 0 * rows[:, 0], halves)
    assert found.llc == pytest.approx(exact, abs=4 * found.se) and found.se < 0.03


def test_a_module_that_is_frozen_as_a_whole_is_refused():
    net, data = frozen()
    loss, params = module_loss(net.requires_grad_(False), error)
    assert told(sample, loss, params, data, SHORT) == (
        "all parameters of the module have requires_grad=False; call requires_grad_(True) on what "
        "is to be sampled, or name it in the mask"
    )


# ---- number types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_types_give_the_exact_llc(dtype, quiet):
    module = nn.Linear(3, 1, bias=False).to(dtype)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
    x = X.to(dtype)
    data = (x, (x.double() @ module.weight.T.double()).detach())
    config = SamplerConfig(
        geometry="absolute",
        n_beta=1000,
        lr=1e-4,
        localization=1,
        num_chains=20,
        num_draws=300,
        num_burnin_steps=100,
        batch_size=20,
    )
    loss, params = module_loss(module, error)
    found = estimate(sample(loss, params, data, config))
    halves = config.model_copy(update={"n_beta": 2 * config.n_beta})
    exact = regression_with_minibatches(x.double().numpy(), np.zeros(len(x)), halves)
    assert found.llc == pytest.approx(exact, abs=4 * found.se) and found.se < 0.1
    assert module.weight.dtype == dtype


def test_sixteen_bits_are_sampled_in_float32_and_that_is_said():
    with pytest.warns(UserWarning, match="weights of type bfloat16 are sampled in float32"):
        _, params = module_loss(nn.Linear(3, 1).bfloat16(), error)
    assert params["weight"].dtype == torch.float32


def test_sixteen_bits_without_a_module_are_sampled_in_float32_too():
    params = {"w": torch.tensor([1.0, -2.0, 0.5]).half()}
    seen = []

    def loss(p, batch):
        seen.append((p["w"].dtype, batch.dtype))
        return (batch @ (p["w"] - 1)).square()

    with pytest.warns(UserWarning, match="weights of type float16 are sampled in float32"):
        sample(loss, params, X.half(), SHORT)
    assert set(seen) == {(torch.float32, torch.float32)} and params["w"].dtype == torch.float16


class Mixed(nn.Module):
    """Casts to the type that half of its weights had."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Linear(3, 3).bfloat16(), nn.LayerNorm(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.n(self.a(x.bfloat16()).float())


class Complex(nn.Module):
    """A complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.complex64))


class Dropping(nn.Linear):
    """Drops in evaluation too."""

    def __init__(self) -> None:
        super().__init__(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5))


class Locked(nn.Linear):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        self.lock = threading.Lock()


def on(module: Callable[[], nn.Module], loss: Callable = squares) -> Callable[[], None]:
    def call() -> None:
        with warnings.catch_warnings(action="ignore"):
            sample(*module_loss(module(), loss), X, SHORT)

    return call


def another(model: Callable, batch: Tensor) -> Tensor:
    return squares(OTHER, batch)


OTHER = nn.Linear(3, 1)
UNCONNECTED = (
    "the loss does not depend on the parameters that are free; "
    "compute it from the parameters, or the model, that are passed to it"
)
REFUSED = {
    "mixed types": (
        on(Mixed),
        "the loss fails (RuntimeError: mat1 and mat2 must have the same dtype, but got BFloat16 "
        "and Float); remove casts from the forward pass: weights and floating-point data have the "
        "same type, which is float32 for 16-bit weights",
    ),
    "complex": (
        on(Complex),
        "the module has complex parameters, which cannot be sampled; "
        "store them as real numbers, with `torch.view_as_real`",
    ),
    "no values": (
        on(lambda: nn.Linear(3, 1, device="meta")),
        "the module has parameters without values; load or initialise it first",
    ),
    "not there yet": (
        on(lambda: nn.LazyLinear(3)),
        "the module has parameters without values; load or initialise it first",
    ),
    "nothing to sample": (
        on(nn.ReLU),
        "the module has no parameters, so nothing can be sampled; "
        "give one whose weights are parameters; those of a quantised module are not",
    ),
    "compiled by torch.jit": (
        on(lambda: torch.jit.trace(nn.Linear(3, 1), X)),
        "the module is compiled by torch.jit; give the module that it was compiled from",
    ),
    "a lock": (
        on(Locked),
        "the module cannot be copied (cannot pickle '_thread.lock' object); "
        "remove files, locks and running jobs from it",
    ),
    "another module": (on(lambda: nn.Linear(3, 1), another), UNCONNECTED),
    "its own gradient switched off": (
        on(lambda: nn.Linear(3, 1), lambda m, b: squares(m, b).detach()),
        UNCONNECTED,
    ),
}


GIVE_FIRST = "; give `module_loss(module, loss)[0]` as the loss"
NET = nn.Linear(3, 1)


def taken_as_a_loss(given: object) -> Callable[[], None]:
    return lambda: sample(given, module_loss(NET, squares)[1], X, SHORT)


class Logits(nn.Linear):
    """Gives logits of tokens (B, T, V) where a loss is expected."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, None].expand(-1, 4, -1)


REFUSED |= {
    "the pair that module_loss gives": (
        taken_as_a_loss(module_loss(NET, squares)),
        f"the loss fails (TypeError: 'tuple' object is not callable){GIVE_FIRST}",
    ),
    "the module itself": (
        taken_as_a_loss(NET),
        "the loss fails (TypeError: Linear.forward() takes 2 positional arguments but 3 were given)"
        + GIVE_FIRST,
    ),
    "a loss of a model": (
        taken_as_a_loss(squares),
        f"the loss fails (TypeError: 'dict' object is not callable){GIVE_FIRST}",
    ),
    "integers where floats belong": (
        lambda: sample(*module_loss(NET, squares), X.long(), SHORT),
        "the loss fails (RuntimeError: mat1 and mat2 must have the same dtype, but got Long and "
        "Float); give as floats what the module multiplies, and as int64 what it looks up",
    ),
    "a tensor for a module with its own loss": (
        lambda: sample(*module_loss(NET), X, SHORT),
        "module_loss(module) calls module(**batch), and a batch is a Tensor; "
        "give the data as a dict of its arguments, or a loss(model, batch)",
    ),
    "logits of a module with its own loss": (
        lambda: sample(*module_loss(Logits(3, 2)), {"x": X}, SHORT),
        "module(**batch) gives a tensor (4, 4, 2), which is no loss of examples; "
        "give a loss(model, batch)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_told_in_one_line(case):
    call, message = REFUSED[case]
    assert told(call) == message


def test_activation_checkpointing_is_refused_with_what_to_turn_off():
    message = told(on(Checkpointed))
    assert message.startswith("the gradient of the loss fails (CheckpointError: ")
    assert message.endswith("; turn activation checkpointing off")


NO_DICT = "params is not a dict of dense tensors with values; give name → tensor"
NO_WEIGHTS = "params contains no floating-point tensor; give the weights, name → tensor"
PARAMS = {
    "a tensor": (torch.ones(3), NO_DICT),
    "a list": ([torch.ones(3)], NO_DICT),
    "arrays": ({"w": np.ones(3)}, NO_DICT),
    "no values": ({"w": torch.ones(3, device="meta")}, NO_DICT),
    "sparse": ({"w": torch.eye(3).to_sparse()}, NO_DICT),
    "nothing": ({}, NO_WEIGHTS),
    "integers": ({"w": torch.ones(3, dtype=torch.int64)}, NO_WEIGHTS),
    "complex": (
        {"w": torch.ones(3, dtype=torch.complex64)},
        "w is complex, and only real numbers can be sampled; convert it with `torch.view_as_real`",
    ),
}


@pytest.mark.parametrize("case", PARAMS)
def test_what_is_no_dict_of_weights_is_refused(case):
    params, message = PARAMS[case]
    assert told(sample, lambda p: p["w"].sum(), params) == message


def test_a_loss_that_draws_random_numbers_is_refused_and_changes_nothing():
    module = seeded(Dropping)
    before, state = everything(module), torch.get_rng_state()
    message = told(on(lambda: module))
    assert message.startswith("the loss is random: for the same weights and examples it returned ")
    assert message.endswith("turn off everything that draws random numbers, such as dropout")
    assert same(before, everything(module)) and torch.equal(state, torch.get_rng_state())
