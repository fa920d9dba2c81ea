"""A torch module as a loss of its parameters; the module itself is never touched.

What is sampled is a copy in evaluation mode: dropout is off and batch norm takes its running
statistics, since the posterior is that of one function. Weights of 16 bits are sampled in float32:
the steps of a chain are below their resolution.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves

from devsort.errors import UserError

Params = dict[str, Tensor]
EVALUATED = "the module is sampled in evaluation mode: no dropout, running statistics"


class ModuleLoss:
    """`loss(params, batch)` of a module.

    Args:
        module: Copied.
        loss: `loss(model, batch)`.

    Attributes:
        params: Name → parameter; tied ones come once, under their first name.
        buffers: Name → buffer; a checkpoint may bring its own.
        free: Names of the parameters with `requires_grad`, which alone move unless a mask names
            others.
        aliases: Name → the name under which that tensor is in `params`.
        renames: Whether the module's `state_dict()` has names of its own, as the bridge of
            TransformerLens has.
        notes: What is done differently from the module as it is, one sentence each.
    """

    def __init__(self, module: torch.nn.Module, loss: Callable[[Any, Any], Any]) -> None:
        module = _unwrapped(module)
        names, aliases = _names(module)
        self.aliases = aliases
        self.free = tuple(n for n, p in names.items() if p.requires_grad)
        self.notes = _notes(module)
        self._network, self._loss = _copied(module, list(names.values())), loss
        self._used: _Bound | None = None
        own = self._network
        self.params: Params = {name: own.get_parameter(name).detach() for name in names}
        self.buffers: Params = {name: buffer.detach() for name, buffer in own.named_buffers()}
        self.persistent = frozenset(own.state_dict().keys()) & self.buffers.keys()
        self.renames = type(own).state_dict is not torch.nn.Module.state_dict
        self.ignored = tuple(getattr(own, "_keys_to_ignore_on_load_unexpected", None) or ())

    def __call__(self, params: Params, batch: Any = None) -> Any:
        """What the loss gives at these parameters, and at these buffers where they are given."""
        device = next(iter(params.values())).device
        buffers = {n: params.get(n, b).to(device, copy=True) for n, b in self.buffers.items()}
        tensors = {alias: params.get(name) for alias, name in self.aliases.items()}
        given = {f"network.{name}": t for name, t in {**tensors, **buffers}.items()}
        given = {name: t for name, t in given.items() if t is not None}
        return torch.func.functional_call(self._bound(), given, (batch,), tie_weights=False)

    def renamed(self, state: Params) -> Params:
        """A state dict of a module that renames, under the names of parameters and buffers.

        Raises:
            RuntimeError: The module does not load it, or gives other values back.
        """
        network = copy.deepcopy(self._network)
        network.load_state_dict(state)
        again = network.state_dict()
        same = again.keys() == state.keys()
        if not same or not all(torch.equal(t, state[n].to(t)) for n, t in again.items()):
            raise RuntimeError("state_dict() does not give back what load_state_dict() was given")
        tensors = {name: network.get_parameter(name).detach() for name in self.params}
        return tensors | {name: network.get_buffer(name).detach() for name in self.buffers}

    def __getstate__(self) -> dict[str, Any]:
        """Without the copy that was used: a pass may leave in it what cannot be pickled."""
        return {**self.__dict__, "_used": None}

    def _bound(self) -> "_Bound":
        if self._used is None:
            tensors = [*self._network.parameters(), *self._network.buffers()]
            network = copy.deepcopy(self._network, {id(t): t for t in tensors})
            self._used = _Bound(network, self._loss)
        return self._used


class _Bound(torch.nn.Module):
    """The loss as the forward pass of a module, so that the model may be used in any way."""

    def __init__(self, network: torch.nn.Module, loss: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Any) -> Any:
        return self.loss(self.network, batch)


def module_loss(
    module: torch.nn.Module, loss: Callable[[Any, Any], Any] | None = None
) -> tuple[ModuleLoss, Params]:
    """Makes a torch module samplable.

    Args:
        module: Any module; it is copied and not changed. Parameters with `requires_grad=False` stay
            frozen unless a mask names them.
        loss: `loss(model, batch)`, calling `model` as usual: the loss of each example (B,) or
            token (B, T), or their mean. An output of Hugging Face or a tuple stands for its loss.
            None: `model(**batch)`, for modules that give their own loss.

    Returns:
        `loss(params, batch)` and the module's parameters, as `sample` takes them.

    Raises:
        UserError: The module cannot be copied, has no parameters, or has some that are complex or
            not there yet.
    """
    found = ModuleLoss(module, loss or _own_loss)
    for note in found.notes:
        warnings.warn(note, stacklevel=2)
    return found, found.params


def _own_loss(model: Callable, batch: Any) -> Any:
    if not isinstance(batch, Mapping):
        what = f"module_loss(module) calls module(**batch), and a batch is a {type(batch).__name__}"
        raise UserError(what, "give the data as a dict of its arguments, or a loss(model, batch)")
    found = model(**batch)
    if isinstance(found, Tensor) and found.dim() > 2:
        what = f"module(**batch) gives a tensor {tuple(found.shape)}, which is no loss of examples"
        raise UserError(what, "give a loss(model, batch)")
    return found


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Without the wrappers of `torch.compile` and of data parallelism."""
    parallel = torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, parallel):
            inner = module.module
        if inner is None:
            return module
        module = inner


def _names(module: torch.nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each parameter under its first name, and for all of its places that name.

    A layer that is used twice is one place, tied weights of two layers are two.
    """
    first: dict[int, str] = {}
    found: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for path, layer in module.named_modules():
        for leaf, parameter in layer._parameters.items():
            if parameter is not None:
                name = f"{path}.{leaf}" if path else leaf
                aliases[name] = first.setdefault(id(parameter), name)
                found.setdefault(aliases[name], parameter)
    return found, aliases


def _copied(module: torch.nn.Module, parameters: list[Tensor]) -> torch.nn.Module:
    if any(isinstance(p, torch.nn.UninitializedParameter) or p.is_meta for p in parameters):
        raise UserError("the module has parameters without values", "load or initialise it first")
    if any(p.is_complex() for p in parameters):
        fix = "keep them as `torch.view_as_real` gives them"
        raise UserError("the module has complex parameters, which SGLD here does not sample", fix)
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError("the module is compiled by torch.jit", "give the module it was made from")
    if not parameters:
        fix = "give one whose weights are parameters; those of a quantised module are not"
        raise UserError("the module has no parameters, so nothing can be sampled", fix)
    try:
        found = copy.deepcopy(module, _results(module))
    except Exception as e:  # whatever a module may hold
        reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
        fix = "have it hold no files, locks or running jobs"
        raise UserError(f"the module cannot be copied ({reason})", fix) from None
    to = sampled_type(parameters)
    # `to` would cut complex buffers to their real part
    found._apply(lambda t: t.to(to) if t.is_floating_point() else t)
    return found.eval().requires_grad_(False)


def _results(module: torch.nn.Module) -> dict[int, Tensor]:
    """What the module keeps of its last pass, by id, copied without its graph."""
    held = [t for part in module.modules() for t in tree_leaves(list(vars(part).values()))]
    return {id(t): t.detach().clone() for t in held if isinstance(t, Tensor) and not t.is_leaf}


def sampled_type(tensors: list[Tensor]) -> torch.dtype:
    """The type that weights are sampled in: float64 if there is one of float64, else float32."""
    wide = any(t.dtype == torch.float64 for t in tensors)
    return torch.float64 if wide else torch.float32


def _notes(module: torch.nn.Module) -> tuple[str, ...]:
    notes = []
    moody = (_DropoutNd, _BatchNorm)
    if any(isinstance(m, moody) and m.training for m in module.modules()):
        notes.append(EVALUATED)
    return (*notes, *types_note(list(module.parameters())))


def types_note(weights: list[Tensor]) -> tuple[str, ...]:
    """What is said of weights of 16 bits; nothing where there are none."""
    small = {t.dtype for t in weights if t.is_floating_point() and t.dtype.itemsize < 4}
    names = " and ".join(sorted(str(t).removeprefix("torch.") for t in small))
    return (f"weights of type {names} are sampled in float32",) if small else ()
