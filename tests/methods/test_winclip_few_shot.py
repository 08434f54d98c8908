"""WinCLIP+ joins WinCLIP's scores with distances to the normal images that it is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from zsad.bench import create, predict_images
from zsad.bench.errors import UsageError
from zsad.bench.predict import encode_pictures
from zsad.methods.winclip import WINDOW_SIDES, window_index
from zsad.methods.winclip_few_shot import WinClipFewShot


@pytest.fixture(scope="module")
def pictures():
    numbers = np.random.default_rng(3)
    coarse = numbers.integers(0, 255, (5, 6, 6, 3)).astype(np.uint8)
    return [np.asarray(Image.fromarray(c).resize((96, 96))) for c in coarse]


@pytest.fixture(scope="module")
def shown(tiny, pictures):
    """The method after it has seen the last two pictures, its answers, and WinCLIP's."""
    method = create("winclip_few_shot", tiny)
    found = predict_images(method, pictures, "tile", references=pictures[3:])
    return method, found, predict_images(create("winclip", tiny, "paper"), pictures, "tile")


def test_what_was_shown_is_not_far_and_language_is_half_of_the_answer(shown):
    _, found, guided = shown
    torch.testing.assert_close(found.scores[3:], guided.scores[3:] / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.maps[3:], guided.maps[3:] / 2, atol=1e-5, rtol=0)
    assert (found.scores[:3] > guided.scores[:3] / 2 + 1e-3).all()


def test_the_association_is_the_literal_one(shown, pictures):
    method, _, _ = shown
    query = encode_pictures(method, [Image.fromarray(pictures[0])], ["tile"])
    normal = encode_pictures(method, [Image.fromarray(p) for p in pictures[3:]], ["tile"] * 2)
    grid = query.features.grid[0]
    maps = []
    for own, known, side in zip(
        method.windows(query), method.windows(normal), WINDOW_SIDES, strict=True
    ):
        values = torch.zeros(grid * grid, dtype=torch.float64)
        distances = [
            min((1 - F.cosine_similarity(w, n, dim=0)) / 2 for n in known.flatten(0, 1))
            for w in own[0]
        ]
        index = window_index(grid, side).tolist()
        for patch in range(grid * grid):
            over = [float(d) for d, window in zip(distances, index, strict=True) if patch in window]
            values[patch] = len(over) / sum(1 / d for d in over)
        maps.append(values)
    tokens = [
        method.backbone.normalise_tokens(q.features.tokens[method.patches]) for q in (query, normal)
    ]
    near = F.cosine_similarity(tokens[0][0][:, None], tokens[1].flatten(0, 1)[None], dim=-1)
    maps.append((1 - near.amax(dim=1).double()) / 2)
    found = method.association(query, method.windows(query))[0]
    torch.testing.assert_close(found, torch.stack(maps).mean(dim=0), atol=1e-5, rtol=0)


def test_variants_are_the_numbers_of_shots_that_the_paper_prints():
    assert [options.shots for options in WinClipFewShot.variants.values()] == [1, 2, 4]


def test_asked_before_it_was_shown_anything_it_says_so(tiny, pictures):
    method = create("winclip_few_shot", tiny)
    query = encode_pictures(method, [Image.fromarray(pictures[0])], ["tile"])
    with pytest.raises(UsageError, match="shown normal images"):
        method.predict(query)
