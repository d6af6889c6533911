"""A file is the old one or the new one, whole, whatever happens to the writer."""

from __future__ import annotations

import errno
import itertools
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from subbyte import files
from subbyte.errors import SubbyteError
from subbyte.files import atomic_write, read_file
from tests.limits import examples


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(params=["unnamed", "named"])
def way(request, monkeypatch):
    """With and without unnamed temporary files."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no unnamed files")
    return request.param


def test_creates_and_replaces(way, tmp_path):
    path = tmp_path / "out.bin"
    for content in (b"first", b"", b"x" * 3_000_000):
        atomic_write(path, content)
        assert read_file(path) == content
        assert names(tmp_path) == ["out.bin"]


def test_keeps_permissions_and_follows_links(way, tmp_path):
    path, link = tmp_path / "out.bin", tmp_path / "link"
    atomic_write(path, b"1")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    link.symlink_to(path)
    atomic_write(link, b"2")
    assert link.is_symlink()
    assert path.read_bytes() == b"2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("call", ["write", "fsync", "link", "replace"])
def test_failure_leaves_the_old_file_and_no_stray(way, call, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "out.bin"
    atomic_write(path, b"old")
    with monkeypatch.context() as patch:
        if call == "replace":
            patch.setattr(Path, "replace", broken)
        else:
            patch.setattr(os, call, broken)
        if call == "link" and way == "named":
            atomic_write(path, b"old")  # no link is made
        else:
            with pytest.raises(SubbyteError, match="No space left"):
                atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("place", ["missing/out.bin", "folder"])
def test_impossible_places(place, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(SubbyteError) as caught:
        atomic_write(tmp_path / place, b"x")
    assert all([caught.value.seen, caught.value.rule, caught.value.remedy, caught.value.place])
    assert names(tmp_path) == ["folder"]


def test_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SubbyteError, match="regular"):
        atomic_write(tmp_path / "pipe", b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_only_regular_files_are_read(tmp_path):
    with pytest.raises(OSError, match=r"regular file|directory"):
        read_file(tmp_path)
    with pytest.raises(OSError, match="regular file"):
        read_file("/dev/zero")


def test_living_writers_are_not_swept(tmp_path):
    path = tmp_path / "out.bin"
    ours, foreign = tmp_path / f".out.bin.{'a' * 16}.tmp", tmp_path / ".out.bin.notes.tmp"
    dead = tmp_path / f".out.bin.{'b' * 16}.tmp"
    for file in (ours, foreign, dead):
        file.write_bytes(b"x")
    descriptor = os.open(ours, os.O_RDONLY)
    try:
        assert files._lock(descriptor)
        atomic_write(path, b"new")
        assert names(tmp_path) == sorted([ours.name, foreign.name, "out.bin"])
    finally:
        os.close(descriptor)


_WRITER = """
import itertools, sys
from subbyte.files import atomic_write
print("ready", flush=True)
for n in itertools.count():
    atomic_write(sys.argv[1].format(n=n), b"AB"[n % 2 : n % 2 + 1] * 2_000_000)
"""


def kill_a_writer(path, delay):
    command = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)
        writer.kill()


def test_killed_writers_lose_nothing(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    rng = random.Random(0)
    whole = {b"A" * 2_000_000, b"B" * 2_000_000, b"old"}
    seen = set()
    longest = 0.03  # a busy machine needs more for a writer to get anywhere
    for attempt in itertools.count():
        kill_a_writer(path, rng.uniform(0, longest))
        content = path.read_bytes()
        assert content in whole
        seen.add(content)
        if attempt >= examples(150):
            if len(seen) > 1:
                break
            longest *= 2
            assert longest < 60, "no writer got anywhere"
    atomic_write(path, b"last")
    assert names(tmp_path) == ["out.bin"]


def test_killed_writers_of_new_files_leave_nothing(tmp_path):
    rng = random.Random(1)
    for _ in range(examples(50)):
        kill_a_writer(tmp_path / "f{n}", rng.uniform(0, 0.02))
        for file in tmp_path.iterdir():
            assert len(file.read_bytes()) == 2_000_000
            assert not file.name.startswith(".") or not hasattr(os, "O_TMPFILE")
            file.unlink()
