"""Steps of a chain as a CUDA graph.

A step is captured once, then replayed with one launch instead of some three hundred. A graph does
the same operations on the same memory at every replay, so all that a step changes must lie in
tensors, its own number too, and nothing may come from the host or wait for it. The first steps run
plainly, since memory is allocated and libraries set themselves up in them; then one is captured,
which does not run it, and all from there on are replays.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch

PLAIN = 3  # steps before the capture; the documentation of torch.cuda.graphs asks for some
Step = Callable[[], Any]


class Graph(Protocol):
    """What can be replayed."""

    def replay(self) -> None:
        """Does the captured operations again."""
        ...


failed: list[Graph] = []  # captures that failed; they must live on


class Replayed:
    """A step that is replayed as a graph once it has run a few times.

    It runs plainly for ever if it cannot be captured.

    Args:
        step: Does the same operations on the same memory at each call, and returns tensors that it
            overwrites.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.plain = step, PLAIN
        self.graph: Graph | None = None

    def __call__(self) -> Any:
        """The next step, and what it returns."""
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
            why = e.__context__ or e  # what ended the capture comes before what the end of it says
            told = f"steps are launched one by one, for they cannot be captured as a graph ({why})"
            warnings.warn(told, stacklevel=4)
            self.plain = -1


def can_capture(device: torch.device) -> bool:
    """Whether steps on this device can be captured.

    Not after one failed, which leaves torch's allocator astray.
    """
    return device.type == "cuda" and not failed


def capture(step: Step) -> tuple[Graph, Any]:
    """The graph of a step, which is not run, and what it returns: tensors that a replay fills.

    Raises:
        RuntimeError: It cannot be captured.
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
    """The stream of plain steps; one for all, since each keeps the memory that was freed on it."""
    return torch.cuda.Stream()


def aside(step: Step) -> Any:
    """Runs a step beside the current stream, as capture wants it before."""
    stream, current = side_stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        out = step()
    current.wait_stream(stream)
    return out
