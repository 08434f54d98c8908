"""How images are told normal or anomalous, and what is refused before anything is scored."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image
from zsad.bench import load_backbone
from zsad.bench.errors import UsageError
from zsad.bench.method import Method, Prediction, Track
from zsad.bench.running.decision import DecisionRule
from zsad.bench.running.predict_files import Request, predict_files


class Brightness(Method):
    """The brightest pixel is the score, the grey picture the map: both are known beforehand."""

    title = "Brightness"
    needs_images = True

    def predict(self, query):
        grey = query.images.mean(dim=1)  # [B, S, S]
        return Prediction(grey.amax(dim=(1, 2)), grey)


class Place(Brightness):
    """Transductive: remembers how many images it was shown together."""

    track = Track.TRANSDUCTIVE

    def observe(self, images):
        self.seen = len(images)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def method(backbone):
    return Brightness(backbone)


def draw(path, grey, spot=None):
    """A grey picture of 96 px, with a square spot in its upper left quarter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((96, 96, 3), grey, np.uint8)
    if spot is not None:
        pixels[:48, :48] = spot
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Nineteen normal pictures of growing brightness, and three to judge."""
    for number in range(19):
        draw(tmp_path / "normal" / f"{number:02d}.png", 40 + number)
    for name, grey in (("a/dark", 30), ("a/like", 57), ("b/deep/bright", 200)):
        draw(tmp_path / "photos" / f"{name}.png", grey)
    return tmp_path


def judged(method, photos, **rule):
    request = Request(DecisionRule(**rule))
    found = predict_files(method, [photos / "photos"], "object", photos / "found", request)
    return found, {row.overlay.split(".")[0]: row for row in found.rows}


def test_normal_images_give_thresholds_p_values_and_regions(method, photos):
    found, rows = judged(method, photos, normal=[photos / "normal"])
    assert found.decision.alpha == 0.05
    assert [rows[name].anomalous for name in ("a/dark", "a/like", "b/deep/bright")] == [
        False,
        False,
        True,
    ]
    assert rows["a/dark"].p_value == 1
    assert rows["a/like"].p_value == 3 / 20  # two normal pictures are as bright
    assert rows["b/deep/bright"].p_value == 1 / 20
    assert (rows["a/like"].region, rows["b/deep/bright"].region) == (0, 1)
    assert found.anomalous == 1
    assert found.decision.threshold == pytest.approx(found.decision.map_threshold)


def test_a_quantile_takes_the_place_of_a_false_alarm_rate(method, photos):
    found, rows = judged(method, photos, normal=[photos / "normal"], quantile=0.5)
    assert found.decision.alpha is None
    assert found.decision.rule == "quantile 0.5 of 19 normal images"
    assert rows["a/like"].anomalous


def test_labelled_images_with_masks_give_the_thresholds_of_the_greatest_f1(method, photos):
    labelled = photos / "labelled"
    for number in range(3):
        draw(labelled / "normal" / f"{number}.png", 40)
        draw(labelled / "anomalous" / f"{number}.png", 80, spot=220)
        mask = np.zeros((96, 96), np.uint8)
        mask[:48, :48] = 255
        (labelled / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(labelled / "masks" / f"{number}.png")
    found, rows = judged(method, photos, labelled=labelled)
    assert found.decision.rule == "F1-max over 3 normal and 3 anomalous images"
    assert "pixels of 6 maps" in found.decision.map_rule
    assert found.decision.map_threshold > found.decision.threshold - 1e-5
    assert [rows[name].anomalous for name in rows] == [False, False, True]
    assert rows["a/dark"].p_value == 1


def test_labelled_images_without_masks_outline_by_the_greatest_values(method, photos):
    draw(photos / "labelled" / "good" / "0.png", 40)
    draw(photos / "labelled" / "bad" / "0.png", 90)
    found, rows = judged(method, photos, labelled=photos / "labelled")
    assert "no masks" in found.decision.map_rule
    assert rows["a/like"].region == 0
    assert rows["b/deep/bright"].region == 1


def test_given_thresholds_are_taken_as_they_are(method, photos):
    score = judged(method, photos)[1]["a/like"].score
    _, rows = judged(method, photos, threshold=score, map_threshold=score - 1e-3)
    assert not rows["a/like"].anomalous  # at the threshold is not above it
    assert rows["a/like"].region == 1
    assert rows["a/like"].p_value is None
    assert (photos / "found" / "decision.json").exists()
    judged(method, photos)
    assert not (photos / "found" / "decision.json").exists()


def test_normal_images_are_part_of_what_a_transductive_method_sees(backbone, photos):
    method = Place(backbone)
    judged(method, photos, normal=[photos / "normal"])
    assert method.seen == 22


def test_images_that_choose_their_own_threshold_are_told(method, photos, caplog):
    with caplog.at_level(logging.WARNING):
        judged(method, photos, normal=[photos], alpha=0.2)
    assert "3 images are both scored and used to choose the threshold" in caplog.text


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"threshold": 1.0, "labelled": "x"}, "one of --threshold, --normal and --labelled"),
        ({"quantile": 0.9}, "--quantile is about normal images"),
        ({"normal": ["normal"], "quantile": 0.9, "alpha": 0.1}, "not both"),
        ({"normal": ["normal"], "alpha": 0.01}, "at least 99 normal images, here are 19"),
        ({"threshold": float("nan")}, "finite"),
        ({"normal": ["absent"]}, "absent does not exist"),
    ],
)
def test_a_rule_that_cannot_be_served_is_refused_before_anything_is_scored(
    method, photos, monkeypatch, rule, says
):
    monkeypatch.setattr(Brightness, "predict", lambda *_: pytest.fail("an image was scored"))
    if "normal" in rule:
        rule = {**rule, "normal": [photos / name for name in rule["normal"]]}
    with pytest.raises(UsageError, match=says):
        judged(method, photos, **rule)


def test_a_method_without_scores_decides_nothing(backbone, photos):
    class MapsAlone(Brightness):
        def predict(self, query):
            return Prediction(None, super().predict(query).maps)

    with pytest.raises(UsageError, match="gives no image-level scores"):
        judged(MapsAlone(backbone), photos, normal=[photos / "normal"])
    _, rows = judged(MapsAlone(backbone), photos, map_threshold=0.0)
    assert [row.region for row in rows.values()] == [0, 0, 1]
