"""Queries and predictions are cut and joined without losing what belongs to an image."""

import torch
from zsad.bench.backbone import TokenSpec, VisualFeatures
from zsad.bench.query import Prediction, Query

PATCHES = TokenSpec(3)


def query(names):
    token = torch.arange(len(names) * 2.0).reshape(-1, 2)
    features = VisualFeatures(token, -token, {PATCHES: token[:, None]}, (1, 1))
    return Query(features, names, torch.arange(1.0 * len(names)))


def test_the_parts_of_a_query_joined_are_the_query():
    whole = query(("a", "b", "c"))
    part = whole[1:]
    assert part.class_names == ("b", "c")
    assert part.images.tolist() == [1, 2]
    assert part[:1].batch_size == part.batch_size == 3
    assert torch.equal(part.features.tokens[PATCHES], whole.features.tokens[PATCHES][1:])
    again = Query.joined([whole[:1], part])
    assert again.class_names == whole.class_names
    assert Query.joined([part, part]).batch_size == 4
    assert torch.equal(again.images, whole.images)
    for name in ("class_token", "class_token_no_ln"):
        assert torch.equal(getattr(again.features, name), getattr(whole.features, name))
    assert torch.equal(again.features.tokens[PATCHES], whole.features.tokens[PATCHES])


def test_predictions_of_which_one_lacks_maps_have_none_together():
    scored = Prediction(torch.zeros(2), None)
    both = Prediction(torch.ones(1), torch.ones(1, 3, 3))
    joined = Prediction.joined([scored, both])
    assert joined.scores.tolist() == [0, 0, 1]
    assert joined.maps is None
    assert Prediction.joined([both, both]).maps.shape == (2, 3, 3)
