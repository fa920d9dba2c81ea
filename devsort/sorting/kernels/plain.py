"""The parts of loss and gradient that are no matrix products of tables, in torch.

On a CPU `compiled.Compiled` has the same methods; this class runs on every device, and is what the
compiled functions are tested against. Symbols: see the package, and R query rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.sorting.kernels.buffers import Buffers
from devsort.sorting.kernels.lists import Lists, collect, collect_rows, rows_of, spread, spread_rows
from devsort.sorting.kernels.unembed import Gradients, Output, Unembedding, log_probs
from devsort.sorting.model import LN_EPS

LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class Pattern:
    """What the backward pass needs of the attention of all heads.

    Attributes:
        scores: (H, G, B, L, 2L), before r.
        pattern: (H, G, B, L, 2L).
        weights: (H, G, B·L, T), pattern times r, spread over the columns; the backward pass
            overwrites it. None in compiled kernels.
    """

    scores: Tensor
    pattern: Tensor
    weights: Tensor | None = None


class Plain:
    """Attention, the loss and gathers in torch, with their buffers.

    Args:
        buffers: Memory.
        mask: (L, 2L), −inf where the key comes after the query, else 0.
    """

    def __init__(self, buffers: Buffers, mask: Tensor) -> None:
        self.buffers, self.mask = buffers, mask

    def queries(self, table: Tensor, r: Tensor | None, lists: Lists) -> tuple[Tensor, Tensor]:
        """Every query row before its r and bias, and after.

        Args:
            table: (H, G, T+1, d), queries of every row of a table, then their bias.
            r: (G, 2L, V), see `embed.Inputs`; a leading axis of 1 is shared by all lanes.
            lists: Minibatches.

        Returns:
            sums and q, both (H, G, R, d).
        """
        (H, G, height, d), (R, L) = table.shape, lists.rows.place.shape
        index = rows_of(lists.queries, height, H)
        sums = torch.index_select(
            table.view(-1, d), 0, index, out=self.buffers("sums", H * G * R, d)
        ).view(-1, R, d)
        sums.baddbmm_(
            lists.rows.place.expand(H * G, R, L),
            table.flatten(0, 1)[:, height - 1 - L : height - 1],
        )
        sums, q, bias = sums.view(H, G, R, d), self.buffers("q", H, G, R, d), table[:, :, -1:]
        if r is None:
            torch.add(sums, bias, out=q)
        else:
            torch.addcmul(bias, sums, _of_queries(r, lists)[..., None], out=q)
        return sums, q

    def queries_backward(
        self, dq: Tensor, sums: Tensor, r: Tensor | None, lists: Lists, grads: tuple
    ) -> None:
        """The adjoint of `queries`.

        Args:
            dq: (H, G, R, d), the gradient of q.
            sums: The first result of `queries`; it is overwritten.
            r: As in `queries`.
            lists: Minibatches.
            grads: Receives the gradient of the table; to the second, None if it is not wanted, that
                of r is added.
        """
        (dtable, dr), (R, L) = grads, lists.rows.place.shape
        H, G, height, d = dtable.shape
        dtable.zero_()
        dtable[:, :, -1] = dq.sum(2)
        if r is not None:
            if dr is not None:
                by_row = sums.mul_(dq).sum(3).sum(0)
                dr.flatten(1).scatter_add_(1, _pairs_of_queries(lists, r.shape[2]), by_row)
            dq *= _of_queries(r, lists)[..., None]
        dtable.view(-1, d).index_add_(0, rows_of(lists.queries, height, H), dq.view(-1, d))
        by_position = torch.bmm(lists.rows.place.mT.expand(H * G, L, R), dq.view(-1, R, d))
        dtable[:, :, height - 1 - L : height - 1] = by_position.view(H, G, L, d)

    def attend(
        self, products: Tensor, output: Tensor, r: Tensor | None, lists: Lists, resid: Tensor
    ) -> Pattern:
        """Attention patterns; what the heads write is added to the residual stream.

        Args:
            products: (H, G, R, T), scores of every query row with every column.
            output: (H, G, T+1, D), what each row of the values writes.
            r: As in `queries`.
            lists: Minibatches.
            resid: (G, B·L, D).
        """
        (H, G, _, T), (B, L2) = products.shape, lists.tokens.shape[1:]
        size = (H, G, B, L2 // 2, L2)
        r_key = None if r is None else _of_keys(r, lists)
        scores = collect_rows(products, lists, self.buffers("scores", *size), self.buffers)
        masked = self.buffers("weighted", *size)
        torch.add(scores, self.mask, out=masked) if r_key is None else torch.addcmul(
            self.mask, scores, r_key, out=masked
        )
        pattern = torch.softmax(masked, -1, out=self.buffers("pattern", *size))
        weighted = pattern if r_key is None else torch.mul(pattern, r_key, out=masked)
        weights = spread(weighted, lists.tokens, self.buffers("weights", *size[:4], T))
        weights = weights.view(H, G, -1, T)
        for each, written in zip(weights, output, strict=True):
            resid.baddbmm_(each, written[:, :-1])
        return Pattern(scores, pattern, weights)

    def attend_backward(
        self,
        dresid: Tensor,
        attention: Pattern,
        output: Tensor,
        r: Tensor | None,
        lists: Lists,
        grads: tuple,
    ) -> Tensor:
        """The adjoint of `attend`.

        Args:
            dresid: (G, B·L, D).
            attention: The result of `attend`, which is overwritten.
            output: As in `attend`.
            r: As in `attend`.
            lists: Minibatches.
            grads: Receives the gradient of output but for its last row; to the second, None if it
                is not wanted, that of r is added.

        Returns:
            the gradient of the products (H, G, R, T).
        """
        weights, (doutput, dr) = attention.weights, grads
        for h in range(len(doutput)):
            torch.bmm(weights[h].mT, dresid, out=doutput[h, :, :-1])
            torch.bmm(dresid, output[h, :, :-1].mT, out=weights[h])
        dweights = weights.view(*attention.pattern.shape[:4], -1)
        return spread_rows(
            self._pattern_backward(dweights, attention, r, lists, dr), lists, self.buffers
        )

    def _pattern_backward(
        self, dweights: Tensor, s: Pattern, r: Tensor | None, lists: Lists, dr: Tensor | None
    ) -> Tensor:
        """Gradient of the scores before r; adds that of r."""
        r_key = None if r is None else _of_keys(r, lists)
        dweighted = collect(dweights, lists.tokens, self.buffers("weighted", *s.pattern.shape))
        dpattern, dscores = dweighted, self.buffers("dscores", *s.pattern.shape)
        if r_key is not None:
            dpattern = torch.mul(dweighted, r_key, out=self.buffers("dpattern", *s.pattern.shape))
        backward = torch.ops.aten._softmax_backward_data.out
        backward(dpattern, s.pattern, -1, torch.float32, grad_input=dscores)
        if r_key is None:
            return dscores
        if dr is not None:
            by_key = dweighted.mul_(s.pattern).addcmul_(dscores, s.scores).sum(3).sum(0)
            dr.flatten(1).scatter_add_(1, _pairs_of_keys(lists, r.shape[2]), by_key.flatten(1))
        return dscores.mul_(r_key)

    def direct(self, centred: Tensor, constant: Tensor, lists: Lists) -> Tensor:
        """What reaches the residual stream whatever the heads attend to, centred: (G, B·L, D).

        Args:
            centred: (G, T, D), see `embed.Inputs`.
            constant: (G, D), added to every answer.
            lists: Minibatches.
        """
        (G, R), L, D = lists.queries.shape, lists.targets.shape[2], centred.shape[2]
        queries = self.buffers("resid" if lists.answers is None else "queries", G * R, D)
        torch.index_select(
            centred.flatten(0, 1), 0, rows_of(lists.queries, centred.shape[1]), out=queries
        )
        queries = queries.view(G, R, D)
        queries.baddbmm_(lists.rows.place.expand(G, R, L), centred[:, -L:] + constant[:, None])
        if lists.answers is None:
            return queries
        answers = rows_of(lists.answers, R)
        resid = torch.index_select(
            queries.flatten(0, 1), 0, answers, out=self.buffers("resid", len(answers), D)
        )
        return resid.view(G, -1, D)

    def direct_backward(self, dresid: Tensor, lists: Lists, width: int) -> Tensor:
        """Gradient of the centred tokens and positions (G, T, D), through what `direct` adds.

        Takes dresid (G, B·L, D) and T.
        """
        (G, R), L, D = lists.queries.shape, lists.targets.shape[2], dresid.shape[2]
        if lists.answers is not None:
            queries = self.buffers("queries", G * R, D).zero_()
            dresid = queries.index_add_(0, rows_of(lists.answers, R), dresid.flatten(0, 1)).view(
                G, R, -1
            )
        total = self.buffers("dcentred", G, width, D).zero_()
        total.flatten(0, 1).index_add_(0, rows_of(lists.queries, width), dresid.flatten(0, 1))
        torch.bmm(lists.rows.place.mT.expand(G, L, R), dresid, out=total[:, -L:])
        return total

    def unembed(self, u: Unembedding, resid: Tensor) -> Output:
        """x̄ W (G, B·L, V) of a centred residual stream x̄ (G, B·L, D), and its r."""
        r = None
        if u.layer_norm:
            square = torch.linalg.vector_norm(resid, dim=-1, keepdim=True).square_()
            r = square.div_(resid.shape[2]).add_(LN_EPS).rsqrt_()
        return Output(u, resid, r, u.times(resid, self.buffers))

    def losses(self, y: Output, targets: Tensor) -> Tensor:
        """Cross-entropy (G, B, L) of every answer in nats."""
        at = targets.flatten(1)[..., None]
        return -log_probs(y, self.buffers).gather(2, at).view(targets.shape)

    def cross_entropy(self, y: Output, targets: Tensor) -> tuple[Tensor, Gradients]:
        """Cross-entropy of every answer, and the gradients of its mean.

        Args:
            y: The result of `unembed`; its product is overwritten.
            targets: (G, B, L), answers.

        Returns:
            losses (G, B, L) in nats, and the gradients.
        """
        at = targets.flatten(1)[..., None]  # (G, B·L, 1)
        logp = log_probs(y, self.buffers)
        losses = -logp.gather(2, at).view(targets.shape)
        n = at.shape[1]
        dlogits = logp.mul_(LOG2_E).exp2_()  # three times as fast as exp_ on many CPUs
        dlogits.scatter_add_(2, at, dlogits.new_full((), -1.0).expand(at.shape))
        if y.r is None:
            dproduct = dlogits.mul_(1 / n)
            return losses, Gradients(dproduct, dproduct.sum(1), None)
        along = y.product.mul_(dlogits).sum(2, keepdim=True)
        dbias = dlogits.sum(1) / n
        pull = along * y.r**3 / (-n * y.resid.shape[2])
        return losses, Gradients(dlogits.mul_(y.r / n), dbias, pull)


def _of_queries(r: Tensor, lists: Lists) -> Tensor:
    """r of each query row (G, R)."""
    flat = r.flatten(1).expand(len(lists.tokens), -1)
    return flat.gather(1, _pairs_of_queries(lists, r.shape[2]))


def _of_keys(r: Tensor, lists: Lists) -> Tensor:
    """r of each key (G, B, 1, 2L)."""
    flat = r.flatten(1).expand(len(lists.tokens), -1)
    of_keys = flat.gather(1, _pairs_of_keys(lists, r.shape[2]))
    return of_keys.view(*lists.tokens.shape)[:, :, None]


def _pairs_of_queries(lists: Lists, vocab: int) -> Tensor:
    """Indices of query rows (G, R) in a table (2L, V) over positions and tokens."""
    return lists.queries + (lists.rows.positions + lists.tokens.shape[2] // 2) * vocab


def _pairs_of_keys(lists: Lists, vocab: int) -> Tensor:
    """Indices of keys (G, B·2L) in a table (2L, V) over positions and tokens."""
    positions = torch.arange(lists.tokens.shape[2], device=lists.tokens.device)
    return (lists.tokens + positions * vocab).flatten(1)
