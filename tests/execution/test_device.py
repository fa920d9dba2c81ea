"""The device, the cores, and torch's threads."""

import os

import pytest
import torch

from devsort.errors import UserError
from devsort.execution import cores, one_core, resolve_device, torch_threads


def flushes() -> bool:
    return float(torch.tensor(1e-39) * 1) == 0


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError) as e:
        resolve_device("cuda")
    told = "device: cuda is asked for, but torch sees no GPU; use --set device=auto"
    assert str(e.value) == told


def test_a_gpu_is_taken_unless_the_cpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_device_is_found_without_a_side_effect():
    resolve_device("cpu")
    assert not flushes()


@pytest.mark.parametrize(("asked", "found"), [("1", 1), ("0", 1), ("9999", None), ("many", None)])
def test_cores_are_those_of_the_process_and_at_most_those_asked_for(monkeypatch, asked, found):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    bound = cores()
    assert bound == len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert cores() == (found or bound)


def test_threads_and_denormal_floats_are_set_as_before_also_within_each_other():
    with torch_threads(3):
        assert torch.get_num_threads() == 3 and flushes()
        with torch_threads(2, flush_denormal=False):
            assert torch.get_num_threads() == 2 and not flushes()
        with pytest.raises(KeyError), one_core():
            assert torch.get_num_threads() == 1 and flushes()
            raise KeyError
        assert torch.get_num_threads() == 3 and flushes()
    assert torch.get_num_threads() == 1 and not flushes()


def test_one_core_decorates_a_function():
    assert one_core()(flushes)() and not flushes()
