"""State dicts fitted to a loss: wrappers' prefixes off, every tensor in its place, nothing guessed.

A module's loss knows its parameters and buffers, so a state dict must hold just these. Tied weights
may come under any of their names, and must agree. A plain function knows no names: it is handed the
tensors as they are.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from devsort.errors import UserError, one_line
from devsort.sampling.losses import Loss
from devsort.sampling.modules import ModuleLoss
from devsort.storage.weights import refuse_not_finite

State = dict[str, Tensor]
# of data parallelism, torch.compile, FSDP and activation checkpointing
WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
MOST = 3  # names that a refusal tells
SAME = "give checkpoints of this very module"
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
    unknown = _unknown(named, expected, loss.ignored)
    if unknown and loss.renames:
        named, unknown = _renamed(bare, loss, where), []
    if unknown:
        what = f"{where} holds {_listed(unknown)}, which the module does not have"
        raise UserError(what, f"{SAME}, or {LEAVE_OUT}")
    found = _parameters(named, loss, where)
    missing = [n for n in (*loss.params, *sorted(loss.persistent)) if n not in {*found, *named}]
    if missing:
        raise UserError(f"{where} lacks {_listed(missing)}", SAME)
    refuse_not_finite(found, where)
    found |= {name: named[name] for name in loss.buffers if name in named}
    own_tensors = {**loss.buffers, **loss.params}
    for name, tensor in found.items():
        own = own_tensors[name]
        if tensor.shape != own.shape:
            what = (
                f"{where}: {name} has shape {tuple(tensor.shape)}, the module's {tuple(own.shape)}"
            )
            raise UserError(what, SAME)
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
    """Without what stands before the module's own names, such as Lightning's `model.`."""
    if not state or expected & state.keys():
        return state
    dots = [(name, dot.end()) for name in state for dot in re.finditer(r"\.", name)]
    fitting = Counter(name[:end] for name, end in dots if name[end:] in expected)
    if not fitting:
        return state
    [(prefix, _)] = fitting.most_common(1)
    others = {n: t for n, t in state.items() if not n.startswith(prefix)}
    return {**others, **{n.removeprefix(prefix): t for n, t in state.items() if n not in others}}


def _unknown(state: State, expected: set[str], ignored: Sequence[str]) -> list[str]:
    return [
        name
        for name in state
        if name not in expected and not any(re.search(pattern, name) for pattern in ignored)
    ]


def _renamed(state: State, loss: ModuleLoss, where: str) -> State:
    try:
        return loss.renamed(state)
    except Exception as e:  # whatever the module's own code raises
        reason = one_line(str(e))[:160] or type(e).__name__
        raise UserError(f"{where} is refused by the module's own names ({reason})", SAME) from e


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
