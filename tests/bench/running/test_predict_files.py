"""Files of a user's own: every picture keeps its own results, and none is replaced."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import PurePath

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench.backbone import Backbone
from zsad.bench.errors import FileError, UsageError
from zsad.bench.method import Method, Prediction
from zsad.bench.running.own_images import image_files, result_stems
from zsad.bench.running.predict_files import predict_files


class Brightness(Method):
    """The mean of the picture, so that a result tells which picture it is of."""

    title = "Brightness"
    needs_images = True

    def predict(self, query):
        level = query.images.mean(dim=(1, 2, 3))
        return Prediction(level, level[:, None, None].expand(-1, 8, 8))


@pytest.fixture(scope="module")
def method():
    from zsad.bench import load_backbone

    return Brightness(load_backbone("tiny"))


def draw(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (grey, grey, grey)).save(path)
    return path


def test_no_result_replaces_another(method, tmp_path):
    names = ("a.jpg", "a.png", "a-2.png", "A.png", "one/a.png", "two/a.png", "one/deep/a.png")
    photos = tmp_path / "photos"
    for number, name in enumerate(names):
        draw(photos / name, 30 * number)
    again = draw(tmp_path / "other" / "a.png", 250)
    out = tmp_path / "found"
    rows = predict_files(method, [photos, again, again], "object", out).rows
    assert len(rows) == len(names) + 1
    for column in ("overlay", "map"):
        assert len({getattr(row, column).casefold() for row in rows}) == len(rows)
    for row in rows:
        assert np.load(out / row.map).mean() == pytest.approx(row.score, abs=1e-5)
    by_path = {row.path: row for row in rows}
    assert by_path[str(photos / "a-2.png")].map == "a-2.map.npy"
    assert by_path[str(photos / "one/deep/a.png")].overlay == "one/deep/a.overlay.png"


@pytest.mark.parametrize("place", ["encode_image", "predict"])
def test_a_call_goes_on_in_parts_where_memory_runs_out(method, tmp_path, monkeypatch, place):
    for number in range(7):
        draw(tmp_path / "photos" / f"{number}.png", 30 * number)
    (tmp_path / "photos" / "2b.png").write_text("no picture")
    paths = [tmp_path / "photos"]
    whole = predict_files(method, paths, "object", tmp_path / "a").rows
    owner = Backbone if place == "encode_image" else Brightness
    work = getattr(owner, place)

    def exhausted(self, images, *rest, **named):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(self, images, *rest, **named)

    monkeypatch.setattr(owner, place, exhausted)
    parts = predict_files(method, paths, "object", tmp_path / "b").rows
    assert [row.path for row in parts] == [row.path for row in whole]
    assert [row.score for row in parts] == pytest.approx([row.score for row in whole], nan_ok=True)
    assert sum(row.score is None for row in parts) == 1
    for row, other in zip(parts[:-1], whole[:-1], strict=True):
        assert np.array_equal(
            np.load(tmp_path / "b" / row.map), np.load(tmp_path / "a" / other.map)
        )


def test_names_are_unique_whatever_they_are():
    names = ["a.png", "a.jpg", "a.bmp", "a-2.png", "a-3.jpg", "a-2.jpg", "b/a.png", "B/a.png"]
    stems = result_stems([PurePath(name) for name in names])
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert stems[0] == "a"
    assert stems[3] == "a-2"


def test_a_folder_of_folders_is_searched(tmp_path):
    for name in ("b/2.png", "a/1.jpg", "0.tif", ".hidden/3.png", "a/._1.jpg"):
        draw(tmp_path / name.replace("._1", "x"), 0).rename(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "folder.png").mkdir()
    found = image_files([tmp_path])
    assert [name.as_posix() for name in found.values()] == ["0.tif", "a/1.jpg", "b/2.png"]


def test_results_of_an_earlier_call_are_not_scored(method, tmp_path):
    draw(tmp_path / "a.png", 9)
    out = tmp_path / "found"
    first = predict_files(method, [tmp_path], "object", out)
    assert predict_files(method, [tmp_path], "object", out) == first


def test_a_picture_is_never_replaced_by_a_result(method, tmp_path):
    pictures = [draw(tmp_path / name, 9) for name in ("a.png", "a.overlay.png")]
    before = pictures[1].read_bytes()
    with pytest.raises(UsageError, match=r"a\.overlay\.png would be replaced"):
        predict_files(method, pictures, "object", tmp_path)
    with pytest.raises(UsageError, match="is the folder of the images"):
        predict_files(method, [tmp_path], "object", tmp_path)
    assert pictures[1].read_bytes() == before


def test_scores_as_csv_are_no_formulas_and_stay_numbers(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "@a.png", "a  b.png"]
    paths = [PurePath(draw(tmp_path / name, 9).name) for name in names]
    paths = [type(tmp_path)(path) for path in paths]
    rows = predict_files(method, paths, "object", tmp_path / "found").rows
    assert all(row.score < 0 for row in rows)  # a dark picture after normalisation
    with (tmp_path / "found" / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == ["'=1+1.png", "'@a.png", "a  b.png"]
    assert [float(row["score"]) for row in table] == [row.score for row in rows]
    stored = json.loads((tmp_path / "found" / "scores.json").read_text())
    assert [row["path"] for row in stored] == names


@pytest.mark.parametrize(
    ("written", "name"),
    [(0, "a.map.npy"), (1, "a.overlay.png"), (2, "scores.json"), (3, "scores.csv")],
)
def test_a_full_disk_names_the_result_and_leaves_no_half_of_it(
    method, tmp_path, monkeypatch, written, name
):
    picture, out = draw(tmp_path / "a.png", 9), tmp_path / "found"
    results = ["a.map.npy", "a.overlay.png", "scores.json", "scores.csv"]
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > written:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match=f"{name} cannot be written .*No space left.*make room"):
        predict_files(method, [picture], "object", out)
    assert sorted(path.name for path in out.iterdir()) == sorted(results[:written])
