"""Query rows.

The ones that an answer is sent to are its token and its position, and none is left out or too many.
"""

import pytest
import torch

from devsort.sorting.config import TaskConfig
from devsort.sorting.kernels.buffers import Buffers
from devsort.sorting.kernels.lists import Lists, collect_rows, query_rows, spread_rows
from devsort.sorting.task import train_batch

TASKS = [
    TaskConfig(list_length=3, numbers=7),
    TaskConfig(list_length=5, numbers=5),
    TaskConfig(list_length=4, numbers=20, mean_gap=2.0, label_noise=0.5),
    TaskConfig(list_length=2, numbers=9),
]
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda t: f"{t.list_length} of {t.numbers}")


def lists_of(task: TaskConfig, count: int) -> Lists:
    return Lists.of(train_batch(task, 1, count)[None], task.numbers + 1)


@every_task
def test_an_answer_finds_its_token_and_position(task):
    lists = lists_of(task, 400)
    L = task.list_length
    assert torch.equal(lists.queries[0][lists.answers[0]], lists.tokens[0, :, L:])
    assert torch.equal(lists.rows.positions[lists.answers[0]], torch.arange(L).expand(400, L))
    assert torch.equal(lists.rows.place.argmax(1), lists.rows.positions) and bool(
        (lists.rows.place.sum(1) == 1).all()
    )


@every_task
def test_there_is_a_row_for_each_query_that_can_be(task):
    rows = query_rows(400, task.list_length, task.numbers + 1, torch.device("cpu"))
    pairs = set(zip(rows.tokens[0].tolist(), rows.positions.tolist(), strict=True))
    assert (
        len(pairs)
        == len(rows.positions)
        == 1 + (task.list_length - 1) * (task.numbers + 1 - task.list_length)
    )
    seen = lists_of(task, 20_000)
    found = torch.stack(
        [seen.tokens[0, :, task.list_length :], torch.arange(task.list_length).expand(20_000, -1)],
        2,
    )
    assert {tuple(pair) for pair in found.flatten(0, 1).tolist()} <= pairs
    if task.mean_gap is None:
        assert {tuple(pair) for pair in found.flatten(0, 1).tolist()} == pairs


@pytest.mark.parametrize("count", [3, 400])
def test_spreading_is_the_adjoint_of_collecting(count):
    """⟨collect(a), b⟩ = ⟨a, spread(b)⟩, whether rows are the answers or all that can be."""
    task, lanes, heads = TASKS[0], 3, 2
    batches = [train_batch(task, step, count)[None] for step in range(1, lanes + 1)]
    tokens, targets = (
        torch.cat([getattr(b, name) for b in batches]) for name in ("tokens", "targets")
    )
    lists = Lists.of(type(batches[0])(tokens, targets), task.numbers + 1)
    assert (lists.answers is None) == (count == 3)
    generator, buffers = torch.Generator().manual_seed(0), Buffers(torch.device("cpu"))
    a = torch.randn(heads, lanes, lists.queries.shape[1], lists.width, generator=generator)
    b = torch.randn(heads, lanes, *targets.shape[1:], 2 * task.list_length, generator=generator)
    collected = collect_rows(a, lists, torch.empty_like(b), buffers)
    assert float((collected * b).sum()) == pytest.approx(
        float((a * spread_rows(b, lists, buffers)).sum()), rel=1e-4
    )
