import hashlib
import multiprocessing
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from zsad.bench import content
from zsad.bench.content import FILE, content_hashes, content_sha256
from zsad.bench.errors import DataError, Stopped
from zsad.bench.progress import Progress

OLD = (10**9, 10**9)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache of the test's own, in which files of this second count as settled."""
    monkeypatch.setenv("ZSAD_HASHES", str(tmp_path / "hashes"))
    monkeypatch.setattr(content, "_memory", {})
    monkeypatch.setattr(content, "SETTLED_SECONDS", -1.0)
    return tmp_path / "hashes" / FILE


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 1000)
    return paths


@pytest.fixture
def reads(monkeypatch):
    """The files that were read, by name."""
    names = []
    read = content._read

    def counting(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(content, "_read", counting)
    return names


def forget(monkeypatch):
    """What another process would know: the cache on disk only."""
    monkeypatch.setattr(content, "_memory", {})


def truth(paths):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_hashes_are_sha256_and_remembered_by_this_process_and_the_next(files, reads, monkeypatch):
    assert content_hashes(files) == truth(files)
    assert len(reads) == 5
    assert content_hashes(files) == truth(files)
    forget(monkeypatch)
    assert content_hashes(reversed(files)) == truth(files)
    assert list(content_hashes(reversed(files))) == files[::-1]
    assert len(reads) == 5


def test_a_file_rewritten_in_place_with_its_old_size_and_times_is_read_again(files, monkeypatch):
    os.utime(files[2], OLD)
    content_hashes(files)
    files[2].write_bytes(b"x" * 1000)
    os.utime(files[2], OLD)
    forget(monkeypatch)
    assert content_hashes(files) == truth(files)


def test_a_file_that_has_just_changed_is_not_remembered(files, reads, monkeypatch):
    monkeypatch.setattr(content, "SETTLED_SECONDS", 60.0)
    content_sha256(files[0])
    content_sha256(files[0])
    assert len(reads) == 2


def test_a_link_is_its_target_and_moves_with_it(files, tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(files[0])
    assert content_sha256(link) == content_sha256(files[0])
    link.unlink()
    link.symlink_to(files[1])
    assert content_sha256(link) == content_sha256(files[1])


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "wrong value", "not writable"])
def test_a_broken_cache_is_made_again(files, own_cache, monkeypatch, damage):
    content_hashes(files)
    whole = own_cache.read_bytes()
    if damage == "garbage":
        own_cache.write_bytes(b"no database " * 500)
    elif damage == "cut":
        own_cache.write_bytes(whole[:4096])
    elif damage == "empty":
        own_cache.write_bytes(b"")
    elif damage == "wrong value":
        with sqlite3.connect(own_cache) as store:
            store.execute("UPDATE hashes SET sha256 = 7")
    else:
        monkeypatch.setenv("ZSAD_HASHES", str(files[0]))  # a file, not a folder
    forget(monkeypatch)
    assert content_hashes(files) == truth(files)
    forget(monkeypatch)
    assert content_hashes(files) == truth(files)
    if damage in ("garbage", "cut", "empty"):
        with sqlite3.connect(own_cache) as store:
            assert store.execute("SELECT count(*) FROM hashes").fetchone() == (5,)


def test_several_processes_share_the_cache(files, own_cache):
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=content_hashes, args=(files,)) for _ in range(4)]
    for child in children:
        child.start()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: content_hashes(files), range(4)))
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert answers == [truth(files)] * 4
    with sqlite3.connect(own_cache) as store:
        assert store.execute("SELECT count(*) FROM hashes").fetchone() == (5,)


def test_what_cannot_be_hashed_is_named(files, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, says in [
        (tmp_path / "gone.png", "cannot be reached"),
        (tmp_path / "pipe.png", "reg"),
    ]:
        with pytest.raises(DataError, match=f"{path.name} .*{says}"):
            content_hashes([*files, path])


def test_a_stop_keeps_what_was_hashed(files, reads):
    progress = Progress()
    progress.stop.set()
    with pytest.raises(Stopped):
        content_hashes(files, progress=progress)
    before = len(reads)
    content_hashes(files[:1])
    assert len(reads) == before
