"""The parts of loss and gradient that are no matrix products of tables, compiled for one core.

They are written in C (`compiled.c`) and built when devsort is installed. Where no compiler was
found, and on a GPU, `plain.Plain` does the same in torch. Both agree to rounding errors.
"""

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from os.path import getmtime as modified
from pathlib import Path

import torch
from torch import Tensor

from devsort.sorting.kernels.buffers import Buffers
from devsort.sorting.kernels.lists import Lists
from devsort.sorting.kernels.plain import Pattern, Plain
from devsort.sorting.kernels.unembed import Gradients, Output, Unembedding
from devsort.sorting.model import LN_EPS, Shape, future_mask


class Compiled:
    """The methods of `Plain`, which describes them, by compiled functions.

    Args:
        buffers: Memory.
        library: The compiled functions.
    """

    def __init__(self, buffers: Buffers, library: ctypes.CDLL) -> None:
        self.buffers, self.library = buffers, library

    def queries(self, table: Tensor, r: Tensor | None, lists: Lists) -> tuple[Tensor, Tensor]:
        """See `Plain.queries`."""
        (H, G, height, d), (R, L) = table.shape, lists.rows.place.shape
        sums, q = (self.buffers(name, H, G, R, d) for name in ("sums", "q"))
        self._call("queries", H, G, L, R, height - 1, d, table, *_lanes(r), *_rows(lists), sums, q)
        return sums, q

    def queries_backward(
        self, dq: Tensor, sums: Tensor, r: Tensor | None, lists: Lists, grads: tuple
    ) -> None:
        """See `Plain.queries_backward`."""
        (H, G, height, d), (R, L) = grads[0].shape, lists.rows.place.shape
        size = (H, G, L, R, height - 1, d)
        self._call("queries_backward", *size, dq, sums, *_lanes(r), *_rows(lists), *grads)

    def attend(
        self, products: Tensor, output: Tensor, r: Tensor | None, lists: Lists, resid: Tensor
    ) -> Pattern:
        """See `Plain.attend`."""
        (H, G, R, T), (B, L2) = products.shape, lists.tokens.shape[1:]
        scores, pattern = (
            self.buffers(name, H, G, B, L2 // 2, L2) for name in ("scores", "pattern")
        )
        size = (H, G, B, L2 // 2, R, T, resid.shape[2])
        given = (products, output, *_lanes(r), *_tokens(lists))
        self._call("attend", *size, *given, scores, pattern, resid)
        return Pattern(scores, pattern)

    def attend_backward(
        self,
        dresid: Tensor,
        attention: Pattern,
        output: Tensor,
        r: Tensor | None,
        lists: Lists,
        grads: tuple,
    ) -> Tensor:
        """See `Plain.attend_backward`."""
        (H, G, B, L, _), (R, T) = attention.pattern.shape, (lists.queries.shape[1], lists.width)
        dproducts = self.buffers("products", H, G, R, T).zero_()
        grads[0].zero_()
        size = (H, G, B, L, R, T, dresid.shape[2])
        given = (dresid, output, *_lanes(r), *_tokens(lists))
        self._call(
            "attend_backward", *size, *given, attention.scores, attention.pattern, dproducts, *grads
        )
        return dproducts

    def direct(self, centred: Tensor, constant: Tensor, lists: Lists) -> Tensor:
        """See `Plain.direct`."""
        (G, B, L), (T, D) = lists.targets.shape, centred.shape[1:]
        resid = self.buffers("resid", G, B * L, D)
        self._call("direct", G, B, L, T, D, centred, constant, *_tokens(lists)[:3], resid)
        return resid

    def direct_backward(self, dresid: Tensor, lists: Lists, width: int) -> Tensor:
        """See `Plain.direct_backward`."""
        (G, B, L), D = lists.targets.shape, dresid.shape[2]
        dcentred = self.buffers("dcentred", G, width, D)
        self._call("direct_backward", G, B, L, width, D, dresid, *_tokens(lists)[:3], dcentred)
        return dcentred

    def unembed(self, u: Unembedding, resid: Tensor) -> Output:
        """See `Plain.unembed`."""
        r = None
        if u.layer_norm:
            r = self.buffers("r", *resid.shape[:2], 1)
            eps = ctypes.c_float(LN_EPS)
            self._call("norms", r.numel(), resid.shape[2], eps, resid, r)
        return Output(u, resid, r, u.times(resid, self.buffers))

    def losses(self, y: Output, targets: Tensor) -> Tensor:
        """See `Plain.losses`."""
        return self._cross_entropy(y, targets, None, None)

    def cross_entropy(self, y: Output, targets: Tensor) -> tuple[Tensor, Gradients]:
        """See `Plain.cross_entropy`."""
        dbias = self.buffers("dbias", len(y.product), y.product.shape[2])
        pull = None if y.r is None else self.buffers("pull", *y.r.shape)
        return self._cross_entropy(y, targets, dbias, pull), Gradients(y.product, dbias, pull)

    def _cross_entropy(
        self, y: Output, targets: Tensor, dbias: Tensor | None, pull: Tensor | None
    ) -> Tensor:
        losses = torch.empty(targets.shape, dtype=torch.float32, device=self.buffers.device)
        size = (*y.product.shape, y.resid.shape[2])
        given = (y.product, y.r, *_lanes(y.unembedding.bias), targets.contiguous())
        self._call("cross_entropy", *size, *given, losses, dbias, pull)
        return losses

    def _call(self, name: str, *args: object) -> None:
        self.library[name](*map(_argument, args))


Operations = Plain | Compiled
STACK = 2**20  # bytes on the stack for the rows of a list's keys (2L + 3, D)


def operations(shape: Shape, buffers: Buffers, compiled: bool = True) -> Operations:
    """The compiled functions, if they are wanted and exist for this device, or those of torch.

    Lists that do not fit STACK are left to torch.
    """
    fits = 4 * (2 * shape.list_length + 3) * shape.d_model <= STACK
    if compiled and fits and buffers.device.type == "cpu" and (library := load()):
        return Compiled(buffers, library)
    future = future_mask(shape.list_length, buffers.device)
    mask = torch.zeros(future.shape, device=buffers.device).masked_fill_(future, -torch.inf)
    return Plain(buffers, mask)


@cache
def load() -> ctypes.CDLL | None:
    """The compiled functions.

    None if they were not built, or from an older source, or if this processor is too old for them.
    """
    source = Path(__file__).with_suffix(".c")
    for suffix in EXTENSION_SUFFIXES:
        path = source.with_name("_compiled" + suffix)
        if path.exists() and not (source.exists() and modified(source) > modified(path)):
            library = ctypes.CDLL(str(path))
            return library if library.suits() else None
    return None


def _argument(value: object) -> object:
    """As C takes it: the address of a tensor, or NULL for None."""
    if isinstance(value, Tensor):
        if value.dtype not in (torch.float32, torch.int64):
            raise TypeError(f"compiled kernels take float32 and int64, not {value.dtype}")
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_int64(value) if isinstance(value, int) else value


def _lanes(values: Tensor | None) -> tuple[Tensor | None, int]:
    """A tensor with the distance of its lanes, 0 if all share one."""
    if values is None:
        return None, 0
    return values, 0 if len(values) == 1 else values.stride(0)


def _rows(lists: Lists) -> tuple[Tensor, int, Tensor]:
    """The tokens of query rows, the distance of their lanes, and their positions."""
    return lists.queries, lists.queries.stride(0), lists.rows.positions


def _tokens(lists: Lists) -> tuple[Tensor, int, int, Tensor | None]:
    """The tokens of keys, the distances of lanes and of lists, and the row of each answer."""
    answers = None if lists.answers is None else lists.answers.contiguous()
    tokens = lists.tokens if lists.tokens.stride(2) == 1 else lists.tokens.contiguous()
    return tokens, tokens.stride(0), tokens.stride(1), answers
