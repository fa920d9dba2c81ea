"""Matches state dicts to a loss.

Prefixes of wrappers are removed. The loss of a module knows its parameters and buffers, so a state
dict must contain exactly these. Tied weights may have any of their names, and must be equal. If the
loss is a plain function, the tensors are passed to it unchanged.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sampling.losses import Loss
from devsort.sampling.modules import ModuleLoss
from devsort.storage.weights import refuse_not_finite

State = dict[str, Tensor]
# prefixes of data parallelism, torch.compile, FSDP and activation checkpointing
WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
MOST = 3  # the most names that an error lists
SAME_MODULE = "give checkpoints of the same module"
LEAVE_OUT = "leave these out, with checkpoints=(steps, load)"


def fitted(state: Mapping[str, Tensor], loss: Loss, where: str) -> State:
    """Returns the tensors of a checkpoint under the names that a loss expects.

    Args:
        state: Name → tensor.
        loss: The loss of a module, or a plain function.
        where: Describes the checkpoint in errors.

    Raises:
        UserError: If names or shapes differ from those of the module, tied weights differ, or a
            weight is not finite.
    """
    bare = _without(dict(state), WRAPPERS)
    if not isinstance(loss, ModuleLoss):
        return bare
    expected = {*loss.aliases, *loss.buffers}
    candidates = [_common_prefix_off(names, expected) for names in (dict(state), bare)]
    # a network may itself have a part called `module`
    named = max(candidates, key=lambda names: len(expected & names.keys()))
    _check_unknown(named, expected, loss.ignored, where)
    tensors = _parameters(named, loss, where)
    missing = [n for n in (*loss.params, *sorted(loss.persistent)) if n not in {*tensors, *named}]
    if missing:
        raise UserError(f"{where} does not contain {_listed(missing)}", SAME_MODULE)
    refuse_not_finite(tensors, where)
    tensors |= {name: named[name] for name in loss.buffers if name in named}
    own_tensors = {**loss.buffers, **loss.params}
    for name, tensor in tensors.items():
        own = own_tensors[name]
        if tensor.shape != own.shape:
            shape = tuple(tensor.shape)
            what = f"{where}: {name} has shape {shape}, in the module it has {tuple(own.shape)}"
            raise UserError(what, SAME_MODULE)
        tensors[name] = tensor.to(own.dtype)
    return tensors


def _parameters(state: State, loss: ModuleLoss, where: str) -> State:
    """Returns each parameter under its first name."""
    parameters: State = {}
    for alias, name in loss.aliases.items():
        if alias not in state:
            continue
        if name in parameters and not torch.equal(parameters[name], state[alias]):
            what = f"{where}: {name} and {alias} are one tensor in the module, but differ here"
            raise UserError(what, f"untie them in the module, or {SAME_MODULE}")
        parameters.setdefault(name, state[alias])
    return parameters


def _without(state: State, prefixes: Sequence[str]) -> State:
    """Removes the prefixes of wrappers, anywhere in a name."""
    pattern = "|".join(rf"(?:^|(?<=\.)){re.escape(prefix)}" for prefix in prefixes)
    stripped = {re.sub(pattern, "", name): tensor for name, tensor in state.items()}
    return stripped if len(stripped) == len(state) else state


def _common_prefix_off(state: State, expected: set[str]) -> State:
    """Removes a common prefix, such as Lightning's `model.`, if the names then match."""
    if not state or expected & state.keys():
        return state
    head = next(iter(state)).split(".")
    for depth in range(1, len(head)):
        prefix = ".".join(head[:depth]) + "."
        inner = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        if expected & inner.keys():
            return {**{n: t for n, t in state.items() if not n.startswith(prefix)}, **inner}
    return state


def _check_unknown(state: State, expected: set[str], ignored: Sequence[str], where: str) -> None:
    unknown = [
        name
        for name in state
        if name not in expected and not any(re.search(pattern, name) for pattern in ignored)
    ]
    if unknown:
        what = f"{where} contains {_listed(unknown)}, which the module does not have"
        raise UserError(what, f"{SAME_MODULE}, or {LEAVE_OUT}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
