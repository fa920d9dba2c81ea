"""What the heads step keeps checkpoint by checkpoint.

Read back as it was, and only where it belongs.
"""

from dataclasses import replace

import numpy as np
import pytest

from devsort.sorting.artifacts import HEADS
from devsort.sorting.checkpoints import load_checkpoint, save_checkpoint
from devsort.sorting.heads import analyse, parts, run_heads
from devsort.sorting.heads.analysis import Analysis
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.run import Run, open_run
from devsort.sorting.task import eval_batch


def analysis(run: Run, step: int, loss: float) -> Analysis:
    """What is measured at a step, with another loss, by which it is known again."""
    shape = model_shape(run.config.task, run.config.model)
    batch = eval_batch(run.config.task)
    return replace(analyse(load_checkpoint(run, step), shape, batch, run.config.heads), loss=loss)


def same(a: Analysis, b: Analysis) -> bool:
    left, right = parts.as_tensors(a), parts.as_tensors(b)
    return left.keys() == right.keys() and all(
        np.array_equal(left[k], right[k], equal_nan=left[k].is_floating_point()) for k in left
    )


def other_weights(run: Run, step: int) -> Run:
    """The run with other weights at a step."""
    shape = model_shape(run.config.task, run.config.model)
    save_checkpoint(run, step, init_params(shape, 1.0, 99))
    return open_run(run.path)


def test_an_analysis_comes_back_from_its_tensors(saved_run):
    a = analysis(saved_run, 5, 1 / 3)
    back = parts.from_tensors(parts.as_tensors(a))
    assert same(a, back) and float(back.loss) == 1 / 3 and back.labels.dtype == bool


def test_it_is_read_unless_it_is_damaged_or_of_another_origin(saved_run):
    a = analysis(saved_run, 5, 1 / 3)
    assert parts.load(saved_run, 5) is None and parts.count(saved_run) == 0
    assert same(parts.save(saved_run, 5, a), a) and parts.count(saved_run) == 1
    assert same(parts.load(open_run(saved_run.path), 5), a)
    assert parts.load(open_run(saved_run.path, ("heads.need=0.3",)), 5) is None
    file = parts.file_of(saved_run, 5)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert parts.load(saved_run, 5) is None
    file.write_bytes(whole)
    assert parts.load(other_weights(saved_run, 5), 5) is None


@pytest.mark.parametrize("changed", [False, True])
def test_a_run_goes_on_from_its_parts_unless_weights_have_changed(saved_run, changed):
    for step in (1, 5):
        parts.save(saved_run, step, analysis(saved_run, step, 100.0 + step))
    run = other_weights(saved_run, 5) if changed else open_run(saved_run.path)
    run_heads(run)
    first, second, last = run.read(HEADS).loss.values
    assert first == 101.0 and (second == 105.0) != changed and last < 100
    assert not run.parts(HEADS).exists()


def test_force_measures_again_what_is_kept(saved_run):
    parts.save(saved_run, 1, analysis(saved_run, 1, 101.0))
    run_heads(saved_run, force=True)
    assert np.all(saved_run.read(HEADS).loss < 100)
