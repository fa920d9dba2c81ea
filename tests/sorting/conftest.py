"""A run whose checkpoints are known."""

import pytest

from devsort.sorting.checkpoints import save_checkpoint
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.run import Run


@pytest.fixture
def saved_run(tiny_run: Run) -> Run:
    """The tiny run with weights at three steps, the last being the final one."""
    shape = model_shape(tiny_run.config.task, tiny_run.config.model)
    for step in (1, 5, 20):
        save_checkpoint(tiny_run, step, init_params(shape, 1.0 + step, step))
    return tiny_run
