"""Arrays come back from a file whose size does not grow with those that gave way to others."""

import os
import tempfile

import numpy as np
import pytest
from zsad.bench.errors import ZsadError
from zsad.bench.records.array_file import ArrayFile


def test_arrays_come_back_as_they_were_kept_last():
    arrays = {name: np.full((3, 2), i, np.float32) for i, name in enumerate("abcdef")}
    kept = ArrayFile((3, 2), np.float32)
    for name in "abc":
        kept[name] = arrays[name]
    for old, new in zip("bca", "def", strict=True):
        kept.drop(old)
        kept.drop("never kept")
        kept[new] = arrays[new]
    kept["e"] = arrays["a"]
    assert {*kept} == {*"def"} and "b" not in kept
    assert np.array_equal(kept["e"], arrays["a"])
    assert np.array_equal(kept["d"], arrays["d"]) and np.array_equal(kept["f"], arrays["f"])
    assert os.fstat(kept._file.fileno()).st_size == 3 * 6 * 4
    kept.close()


def test_arrays_that_find_no_room_are_an_error_that_names_the_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    kept = ArrayFile((2,), np.uint8)
    with pytest.raises(ZsadError, match=r"absent.*TMPDIR.*--gallery 0"):
        kept["a"] = np.zeros(2, np.uint8)
    kept.close()
