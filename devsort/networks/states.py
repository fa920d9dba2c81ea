"""State dicts fitted to a loss: wrappers' prefixes off, every tensor in its place, nothing guessed.

A module's loss knows its parameters and buffers, so a state dict must hold just these. Tied weights
may come under any of their names, and must agree. A plain function knows no names: it is handed the
tensors as they are.
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
# of data parallelism, torch.compile, FSDP and activation checkpointing
WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
MOST = 3  # names that a refusal tells
LEAVE_OUT = "leave these out, with checkpoints=(steps, load)"


def fitted(state: Mapping[str, Tensor], loss: Loss, where: str) -> State:
    """The tensors of a checkpoint as a loss takes them.

    Args:
        state: Name → tensor.
        loss: Of a module, or a plain function.
        where: The checkpoint, for errors.

    Raises:
        UserError: Names or shapes are not those of the module, tied weights differ, or a weight is
            not finite.
    """
    bare = _without(dict(state), WRAPPERS)
    if not isinstance(loss, ModuleLoss):
        return bare
    expected = {*loss.aliases, *loss.buffers}
    given = [_common_prefix_off(names, expected) for names in (dict(state), bare)]
    # a network may have a part that is called `module` itself
    named = max(given, key=lambda names: len(expected & names.keys()))
    _check_unknown(named, expected, loss.ignored, where)
    found = _parameters(named, loss, where)
    missing = [n for n in (*loss.params, *sorted(loss.persistent)) if n not in {*found, *named}]
    if missing:
        raise UserError(f"{where} lacks {_listed(missing)}", "give checkpoints of this very module")
    refuse_not_finite(found, where)
    found |= {name: named[name] for name in loss.buffers if name in named}
    own_tensors = {**loss.buffers, **loss.params}
    for name, tensor in found.items():
        own = own_tensors[name]
        if tensor.shape != own.shape:
            what = (
                f"{where}: {name} has shape {tuple(tensor.shape)}, the module's {tuple(own.shape)}"
            )
            raise UserError(what, "give checkpoints of this very module")
        found[name] = tensor.to(own.dtype)
    return found


def _parameters(state: State, loss: ModuleLoss, where: str) -> State:
    """Each parameter under its first name."""
    found: State = {}
    for alias, name in loss.aliases.items():
        if alias not in state:
            continue
        if name in found and not torch.equal(found[name], state[alias]):
            what = f"{where}: {name} and {alias} are one tensor in the module, but differ here"
            raise UserError(what, "untie them in the module, or give checkpoints of it")
        found.setdefault(name, state[alias])
    return found


def _without(state: State, prefixes: Sequence[str]) -> State:
    """Without wrappers' prefixes, wherever they stand in a name."""
    pattern = "|".join(rf"(?:^|(?<=\.)){re.escape(prefix)}" for prefix in prefixes)
    stripped = {re.sub(pattern, "", name): tensor for name, tensor in state.items()}
    return stripped if len(stripped) == len(state) else state


def _common_prefix_off(state: State, expected: set[str]) -> State:
    """Without what stands before all names, such as Lightning's `model.`, where that helps."""
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
        what = f"{where} holds {_listed(unknown)}, which the module does not have"
        raise UserError(what, f"give checkpoints of this very module, or {LEAVE_OUT}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
