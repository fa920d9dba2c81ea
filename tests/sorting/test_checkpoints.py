"""What training leaves: a log that is verified, and refusals that name what is wrong."""

import json

import pytest
from folders import told

from devsort.sorting.checkpoints import LOG_KEYS, check_training, load_resume_step, read_log
from devsort.sorting.train import train


def test_a_trained_run_is_whole(tiny_run):
    assert load_resume_step(tiny_run) == 0
    train(tiny_run)
    assert load_resume_step(tiny_run) == 20 and check_training(tiny_run, 20) == 7
    other = told(check_training, tiny_run, 10)
    assert other.startswith(f"{tiny_run.resume_state} has step 20, expected 10; ")


LINES = {
    "no JSON": "{",
    "too deep": "[" * 100_000,
    "a list": "[1]",
    "no loss": '{"step": 1}',
    "text for a number": json.dumps(dict.fromkeys(LOG_KEYS, "1")),
}


@pytest.mark.parametrize("kind", LINES)
def test_the_log_ends_where_it_is_damaged(tiny_run, kind):
    train(tiny_run)
    lines = tiny_run.training_log.read_text().splitlines()
    tiny_run.training_log.write_text("\n".join([*lines[:2], LINES[kind], *lines[2:]]))
    assert [line["step"] for line in read_log(tiny_run)] == [1, 2]
    fix = f"run `devsort train {tiny_run.path}` to make it again"
    expected = f"{tiny_run.training_log} does not match its checksum; {fix}"
    assert told(check_training, tiny_run, 20) == expected
