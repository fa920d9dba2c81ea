"""An address is asked before Ray is: who listens there is known within seconds."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from folders import told

from devsort.execution import cluster
from devsort.execution.cluster import ask

START = "start one with `ray start --head`, or look at the host and port"
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame of settings of HTTP/2


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """The address of a server that says one thing, or nothing, to the first who comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError), server.accept()[0] as there:  # who came may be gone already
                if answer is not None:
                    there.sendall(answer)
                while there.recv(1024):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_server_of_grpc_passes():
    with listening(SETTINGS) as address:
        ask(address)
    with listening(SETTINGS) as address:
        ask(f"ray://{address}")
    ask("auto")


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    message = f"no Ray cluster listens at {address} ([Errno 111] Connection refused); {START}"
    assert told(ask, address) == message


def test_who_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.1)
    with listening(None) as address:
        assert told(ask, address) == f"no Ray cluster listens at {address} (timed out); {START}"


OTHERS = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "less than a frame": b"\0",
}


@pytest.mark.parametrize("who", OTHERS)
def test_something_else_listens(monkeypatch, who):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with listening(OTHERS[who]) as address:
        what = f"what listens at {address} is no Ray cluster"
        late = f"no Ray cluster listens at {address} (timed out)"
        assert told(ask, address) in (f"{what}; {START}", f"{late}; {START}")


def test_a_cluster_that_encrypts_is_asked_no_more_than_its_port(monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with listening(None) as address:
        ask(address)


@pytest.mark.parametrize(
    "address", ["nowhere", "host:", ":6379", "host:port", "host:99999", "a:-1"]
)
def test_what_is_no_address(address):
    assert (
        told(ask, address) == f"--address {address!r} is not understood; write HOST:PORT, or auto"
    )
