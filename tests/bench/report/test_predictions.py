"""The page of `zsad predict`: sorted by score, with pictures that are there, and no script."""

import re
from urllib.parse import unquote

import pytest
from zsad.bench.records.predictions import Decision, FileScore, Predictions
from zsad.bench.report.predictions import write_index

ROWS = [
    FileScore("p/low.png", 0.1, False, 0.9, 0.0, "low.overlay.png", "low.map.npy"),
    FileScore("p/<b>&high.png", 0.9, True, 0.05, 0.25, "a b/<b>&%high.overlay.png", "h.map.npy"),
    FileScore("p/broken.png", error="image p/broken.png cannot be read"),
    FileScore("p/middle.png", 0.5, True, 0.1, 0.1, "middle.overlay.png", "m.map.npy"),
]
DECISION = Decision("given & taken", 0.4, "as given", 0.7, normal=(0.1, 0.2))


@pytest.fixture
def page(tmp_path):
    found = Predictions(ROWS, DECISION)
    return write_index(tmp_path, found, {"Method": "CLIP"}).read_text()


def test_results_stand_by_score_and_what_is_broken_at_the_end(page):
    order = [page.index(f"p/{name}") for name in ("&lt;b&gt;", "middle", "low", "broken")]
    assert order == sorted(order)
    assert "2 of 4: score above 0.4 (given &amp; taken)" in page
    assert "map above 0.7 (as given)" in page
    assert page.count('class="anomalous"') == 2


def test_pictures_are_found_whatever_they_are_called(page):
    sources = [unquote(name) for name in re.findall(r'<img loading="lazy" src="([^"]*)"', page)]
    assert sources == [row.overlay for row in (ROWS[1], ROWS[3], ROWS[0])]
    assert "<b>" not in page


def test_the_page_needs_neither_script_nor_network(page):
    assert "<script" not in page
    assert "http:" not in page and "https:" not in page


def test_without_a_threshold_the_page_says_how_to_get_one(tmp_path):
    rows = [FileScore("a.png", 0.1, overlay="a.overlay.png", map="a.map.npy")]
    text = write_index(tmp_path, Predictions(rows, Decision()), {}).read_text()
    assert "not decided: a threshold comes with --threshold, --normal or --labelled" in text
    assert "checkbox" not in text
