"""Files and folders: replaced whole or not at all, whatever fails, and never through a link."""

import errno
import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from folders import KEPT, names, told

from devsort.storage.files import (
    refuse_links,
    remove,
    remove_leftovers,
    replacing_folder,
    write_atomic,
)


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """Lets no file grow beyond `limit` bytes: a write fails half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_atomic(path, b"old and longer")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file"]


def test_a_write_that_fails_half_way_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with small_disk(4096):
        message = told(write_atomic, path, b"n" * 1_000_000)
    assert message == f"{path} cannot be written (File too large){KEPT}"
    assert path.read_bytes() == b"old"
    assert 0 < (tmp_path / ".tmp-file").stat().st_size <= 4096  # it did fail half-way


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only file system"),
    ],
)
def test_a_full_disk_or_refused_permission_is_told(tmp_path, monkeypatch, call, code, reason):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    assert told(write_atomic, path, b"new") == f"{path} cannot be written ({reason}){KEPT}"
    assert path.read_bytes() == b"old"


def test_data_are_on_disk_before_the_name_is_and_the_name_before_it_is_relied_on(
    tmp_path, monkeypatch
):
    order = []
    fsync, replace = os.fsync, os.replace
    told = lambda f: "folder" if stat.S_ISDIR(os.fstat(f).st_mode) else os.fstat(f).st_size  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda f: (order.append(told(f)), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda *a: (order.append("replace"), replace(*a)))
    write_atomic(tmp_path / "file", b"12345")
    assert order == [5, "replace", "folder"]


def fill(folder: Path, text: str) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text(text)


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "llc.zarr"
    for text in ("old", "new"):
        with replacing_folder(path) as folder:
            fill(folder, text)
        assert (path / "inner" / "file").read_text() == text
        assert names(tmp_path) == ["llc.zarr", "llc.zarr/inner", "llc.zarr/inner/file"]


def test_a_folder_stays_as_it_was_if_the_work_fails(tmp_path):
    path = tmp_path / "llc.zarr"
    fill(path, "old")

    def work(error: Exception) -> None:
        with replacing_folder(path) as folder:
            fill(folder, "new")
            raise error

    with pytest.raises(ZeroDivisionError):
        work(ZeroDivisionError())
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert told(work, full) == f"{path} cannot be written (No space left on device){KEPT}"
    assert (path / "inner" / "file").read_text() == "old"
    with replacing_folder(path) as folder:  # what the failures left does not get in
        fill(folder, "new")
    assert names(tmp_path) == ["llc.zarr", "llc.zarr/inner", "llc.zarr/inner/file"]


def test_no_part_of_an_old_folder_is_ever_seen_under_its_name(tmp_path, monkeypatch):
    path = tmp_path / "llc.zarr"
    fill(path, "old")
    seen = []

    def look(call):
        def looked(*args, **kwargs):
            seen.append(names(path) if path.exists() else None)
            return call(*args, **kwargs)

        return looked

    for module, name in ((os, "replace"), (os, "unlink"), (os, "rmdir")):
        monkeypatch.setattr(module, name, look(getattr(module, name)))
    with replacing_folder(path) as folder:
        fill(folder, "new")
    assert len(seen) >= 4
    assert all(found in (None, ["inner", "inner/file"]) for found in seen)


def test_remove_takes_files_folders_links_and_nothing(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    fill(target, "kept")
    link.symlink_to(target)
    remove(link)
    assert names(tmp_path) == ["target", "target/inner", "target/inner/file"]
    remove(target)
    (tmp_path / "file").write_text("")
    remove(tmp_path / "file")
    remove(tmp_path / "absent")
    assert names(tmp_path) == []


# --- links, pipes and leftovers
# --------------------------------------------------------------------------------------


def test_a_write_never_goes_through_a_link(tmp_path):
    (tmp_path / "canary").write_text("the user's own")
    for name in (".tmp-file", "file"):
        (tmp_path / name).symlink_to(tmp_path / "canary")
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "canary").read_text() == "the user's own"
    assert (tmp_path / "file").read_bytes() == b"new" and not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("place", ["link", "deep/inside/link"])
def test_links_and_pipes_are_named(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_links(tmp_path)
    fix = "put the file or folder itself in its place"
    path.symlink_to("/nowhere")
    assert told(refuse_links, tmp_path) == f"{path} is a symbolic link; {fix}"
    path.unlink()
    os.mkfifo(path)
    assert told(refuse_links, tmp_path) == f"{path} is no regular file; {fix}"


def test_leftovers_of_killed_writers_are_cleared_and_nothing_else(tmp_path):
    fill(tmp_path / ".tmp-llc.zarr" / ".tmp-inside", "half")
    fill(tmp_path / "llc.zarr", "whole")
    for name in ("llc.zarr/c.0.partial", ".tmp-stages.json"):
        (tmp_path / name).write_text("half")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["llc.zarr", "llc.zarr/inner", "llc.zarr/inner/file"]
