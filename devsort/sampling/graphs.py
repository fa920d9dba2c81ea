"""Runs the steps of a chain as a CUDA graph.

A step is captured once and then replayed with one launch instead of about three hundred. A graph
repeats the same operations on the same memory, so everything that changes from step to step must be
in a tensor on the device, including the step number, and nothing may be read from the host or wait
for it. The first steps run without a graph, because they allocate memory and initialize libraries.
Then one step is captured, which does not run it, and from there on every step is a replay.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch

PLAIN = 3  # steps before the capture; the documentation of torch.cuda.graphs recommends a few
Step = Callable[[], Any]


class Graph(Protocol):
    """A captured sequence of operations."""

    def replay(self) -> None:
        """Repeats the captured operations."""
        ...


failed: list[Graph] = []  # failed captures, which must not be freed


class Replayed:
    """A step that is replayed as a graph after it has run a few times.

    If it cannot be captured, it always runs without a graph.

    Args:
        step: Performs the same operations on the same memory at each call. The next call overwrites
            the tensors that it returns.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.plain = step, PLAIN
        self.graph: Graph | None = None

    def __call__(self) -> Any:
        """Runs the next step and returns its result."""
        if self.graph is None and self.plain == 0:
            self._capture()
        if self.graph is None:
            self.plain -= 1
            return aside(self.step)
        self.graph.replay()
        return self.out

    def _capture(self) -> None:
        try:
            self.graph, self.out = capture(self.step)
        except RuntimeError as e:
            why = e.__context__ or e  # the cause, rather than the error at the end of the capture
            note = f"steps run without a graph, because they cannot be captured ({why})"
            warnings.warn(note, stacklevel=4)
            self.plain = -1


def can_capture(device: torch.device) -> bool:
    """Whether steps on this device can be captured.

    After a capture has failed they cannot, because torch's allocator is left in an invalid state.
    """
    return device.type == "cuda" and not failed


def capture(step: Step) -> tuple[Graph, Any]:
    """Captures a step without running it.

    Returns:
        The graph, and the tensors that the step returns, which each replay overwrites.

    Raises:
        RuntimeError: If it cannot be captured.
    """
    graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            out = step()
    except RuntimeError:
        torch.cuda.set_stream(current)  # torch leaves the stream of the capture in place
        failed.append(graph)
        raise
    return graph, out


@cache
def side_stream() -> torch.cuda.Stream:
    """Returns the stream of steps without a graph.

    There is only one, because each stream keeps the memory that was freed on it.
    """
    return torch.cuda.Stream()


def aside(step: Step) -> Any:
    """Runs a step on the side stream, as torch requires before a capture."""
    stream, current = side_stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        out = step()
    current.wait_stream(stream)
    return out
