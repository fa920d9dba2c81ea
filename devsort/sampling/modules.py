"""Turns a torch module into a loss of its parameters. The module itself is not changed.

A copy of the module is sampled in evaluation mode: dropout is off and batch norm uses its running
statistics, because the posterior is defined for a fixed function. 16-bit weights are sampled in
float32, because the steps of a chain are smaller than their resolution.
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
    """The loss of a module as a function `loss(params, batch)`.

    Args:
        module: The module, which is copied.
        loss: `loss(model, batch)`.

    Attributes:
        params: Name → parameter. Tied parameters occur once, under their first name.
        buffers: Name → buffer. A checkpoint may have values of its own.
        free: Names of the parameters with `requires_grad`. Only these move, unless a mask names
            others.
        aliases: Name → the name of the same tensor in `params`.
        notes: One sentence for each difference between the module and the copy that is sampled.
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
        self.ignored = tuple(getattr(own, "_keys_to_ignore_on_load_unexpected", None) or ())

    def __call__(self, params: Params, batch: Any = None) -> Any:
        """Returns the loss at these parameters, and at any buffers that `params` contains."""
        device = next(iter(params.values())).device
        buffers = {n: params.get(n, b).to(device, copy=True) for n, b in self.buffers.items()}
        tensors = {alias: params.get(name) for alias, name in self.aliases.items()}
        inputs = {f"network.{name}": t for name, t in {**tensors, **buffers}.items()}
        inputs = {name: t for name, t in inputs.items() if t is not None}
        return torch.func.functional_call(self._bound(), inputs, (batch,), tie_weights=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the copy that was run, because it may contain what cannot be pickled."""
        return {**self.__dict__, "_used": None}

    def _bound(self) -> "_Bound":
        if self._used is None:
            tensors = [*self._network.parameters(), *self._network.buffers()]
            network = copy.deepcopy(self._network, {id(t): t for t in tensors})
            self._used = _Bound(network, self._loss)
        return self._used


class _Bound(torch.nn.Module):
    """A module whose forward pass is the loss, so that the loss may use the model in any way."""

    def __init__(self, network: torch.nn.Module, loss: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Any) -> Any:
        return self.loss(self.network, batch)


def module_loss(
    module: torch.nn.Module, loss: Callable[[Any, Any], Any] | None = None
) -> tuple[ModuleLoss, Params]:
    """Makes a torch module ready for sampling.

    Args:
        module: Any module. It is copied and not changed. Parameters with `requires_grad=False` stay
            frozen unless a mask names them.
        loss: `loss(model, batch)`, which calls `model` as usual and returns the loss of each
            example (B,) or token (B, T), or their mean. It may also return a Hugging Face model
            output, or a tuple whose first entry is the loss. With None, the loss is
            `model(**batch)`, for modules that compute their own loss.

    Returns:
        `loss(params, batch)` and the parameters of the module, as arguments for `sample`.

    Raises:
        UserError: If the module cannot be copied, has no parameters, or has parameters that are
            complex or not yet initialized.
    """
    wrapped = ModuleLoss(module, loss or _own_loss)
    for note in wrapped.notes:
        warnings.warn(note, stacklevel=2)
    return wrapped, wrapped.params


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
    """Removes the wrappers of `torch.compile` and of data parallelism."""
    parallel = torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, parallel):
            inner = module.module
        if inner is None:
            return module
        module = inner


def _names(module: torch.nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns each parameter under its first name, and that name for each of its names.

    A layer that is used twice has one name; tied weights of two layers have two.
    """
    first: dict[int, str] = {}
    parameters: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for path, layer in module.named_modules():
        for leaf, parameter in layer._parameters.items():
            if parameter is not None:
                name = f"{path}.{leaf}" if path else leaf
                aliases[name] = first.setdefault(id(parameter), name)
                parameters.setdefault(aliases[name], parameter)
    return parameters, aliases


def _copied(module: torch.nn.Module, parameters: list[Tensor]) -> torch.nn.Module:
    if any(isinstance(p, torch.nn.UninitializedParameter) or p.is_meta for p in parameters):
        raise UserError("the module has parameters without values", "load or initialise it first")
    if any(p.is_complex() for p in parameters):
        fix = "store them as real numbers, with `torch.view_as_real`"
        raise UserError("the module has complex parameters, which cannot be sampled", fix)
    if isinstance(module, torch.jit.ScriptModule):
        fix = "give the module that it was compiled from"
        raise UserError("the module is compiled by torch.jit", fix)
    if not parameters:
        fix = "give one whose weights are parameters; those of a quantised module are not"
        raise UserError("the module has no parameters, so nothing can be sampled", fix)
    try:
        network = copy.deepcopy(module, _results(module))
    except Exception as e:  # a module may contain anything
        reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
        fix = "remove files, locks and running jobs from it"
        raise UserError(f"the module cannot be copied ({reason})", fix) from None
    to = sampled_type(parameters)
    # `to` would reduce complex buffers to their real part
    network._apply(lambda t: t.to(to) if t.is_floating_point() else t)
    return network.eval().requires_grad_(False)


def _results(module: torch.nn.Module) -> dict[int, Tensor]:
    """Returns the tensors that the module has stored in its last pass, by id.

    They are copied without their autograd graph.
    """
    values = [t for part in module.modules() for t in tree_leaves(list(vars(part).values()))]
    return {id(t): t.detach().clone() for t in values if isinstance(t, Tensor) and not t.is_leaf}


def sampled_type(tensors: list[Tensor]) -> torch.dtype:
    """Returns the type in which weights are sampled: float64 if any has that type, else float32."""
    wide = any(t.dtype == torch.float64 for t in tensors)
    return torch.float64 if wide else torch.float32


def _notes(module: torch.nn.Module) -> tuple[str, ...]:
    notes = []
    mode_dependent = (_DropoutNd, _BatchNorm)
    if any(isinstance(m, mode_dependent) and m.training for m in module.modules()):
        notes.append(EVALUATED)
    return (*notes, *types_note(list(module.parameters())))


def types_note(weights: list[Tensor]) -> tuple[str, ...]:
    """Returns the note about 16-bit weights, if there are any."""
    small = {t.dtype for t in weights if t.is_floating_point() and t.dtype.itemsize < 4}
    names = " and ".join(sorted(str(t).removeprefix("torch.") for t in small))
    return (f"weights of type {names} are sampled in float32",) if small else ()
