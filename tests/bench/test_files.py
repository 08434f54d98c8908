"""Files are whole or absent, and no two names become one."""

import json
import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zsad.bench.errors import FileError
from zsad.bench.files import file_name, read_json, remove_abandoned, write_json, write_text


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_texts_have_different_file_names(a, b):
    assert (file_name(a) == file_name(b)) == (a == b)


def test_nan_is_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "y.json").write_text('{"a": NaN}')
    with pytest.raises(ValueError, match="NaN"):
        read_json(tmp_path / "y.json")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(FileError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_outputs_follow_links_and_leave_devices_in_place(tmp_path):
    target, link, pipe = tmp_path / "target.md", tmp_path / "link.md", tmp_path / "pipe"
    link.symlink_to(target)
    target.write_text("old")
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "table")
    assert os.read(reader, 9) == b"table"
    os.close(reader)
    with pytest.raises(FileError, match=r"cannot be written .*another place"):
        write_text(tmp_path, "text")
    assert {path.name for path in tmp_path.iterdir()} == {"target.md", "link.md", "pipe"}


def test_temporary_files_of_dead_writers_are_swept_and_those_of_living_ones_kept(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    dead = tmp_path / "cells" / f".a.json.{host}.{gone.pid}-1.tmp"
    living = tmp_path / f".a.json.{host}.{os.getpid()}-1.tmp"
    young = tmp_path / f".a.json.not-{host}.{gone.pid}-1.tmp"
    old = tmp_path / f".b.json.not-{host}.{os.getpid()}-1.tmp"
    dead.parent.mkdir()
    for path in (dead, living, young, old):
        path.write_text("{")
    for path in (living, old):
        os.utime(path, (1, 1))
    remove_abandoned(tmp_path)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted([living, young])


def test_a_writer_killed_in_the_middle_is_known_as_dead(tmp_path):
    code = (
        "import os, pathlib, sys; from zsad.bench.files import whole_file\n"
        "with whole_file(pathlib.Path(sys.argv[1])) as file: os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")])
    assert len(list(tmp_path.iterdir())) == 1
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []
