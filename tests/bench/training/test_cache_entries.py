"""What lies in the feature cache is listed, and cleared by dataset and age."""

import json
import os
import time

import numpy as np
import pytest
from typer.testing import CliRunner
from zsad.bench.cli.cache import app
from zsad.bench.training.cache_entries import DAY, cache_state, chosen, clear
from zsad.bench.training.feature_cache import FeatureCache

KEYS = {"a" * 32: ("mvtec_ad", 3), "b" * 32: ("visa", 40), "masks-" + "c" * 32: ("mvtec_ad", 3)}


@pytest.fixture
def root(tmp_path):
    """A cache of three folders, not used for 3, 40 and 3 days, beside what is not of it."""
    for name, (dataset, days) in KEYS.items():
        shard = tmp_path / name / "tokens-24" / "00000.npy"
        shard.parent.mkdir(parents=True)
        shard.write_bytes(bytes(1000))
        key = tmp_path / name / "key.json"
        key.write_text(json.dumps({"dataset": dataset, "images": 5, "stored": "full"}))
        os.utime(key, (time.time() - days * DAY,) * 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("not a feature")
    return tmp_path


def test_entries_say_what_they_are(root):
    state = cache_state(FeatureCache(root))
    first, second, last = state.entries
    assert {first.kind, second.kind} == {"features", "masks"}
    assert (last.dataset, last.images, last.stored) == ("visa", 5, "full")
    assert last.arrays == ("tokens-24",)
    assert last.days() == pytest.approx(40, abs=0.1)
    assert 3000 < state.used < 3500
    assert state.free > 0


def test_an_entry_states_the_dtype_of_its_arrays(root):
    shards = [root / (letter * 32) / "tokens-24" / "00000.npy" for letter in "ab"]
    np.save(shards[0], np.zeros((2, 3), np.float16))
    found = {entry.folder.name[:1]: entry for entry in cache_state(FeatureCache(root)).entries}
    assert [found[letter].dtype for letter in "abm"] == ["float16", "", "bits"]
    assert found["a"].to_json()["dtype"] == "float16"
    assert "float16" in zsad_cache(root, "list")


def test_an_entry_without_a_readable_key_is_listed_and_cleared(root):
    (root / ("a" * 32) / "key.json").write_text("{")
    entries = cache_state(FeatureCache(root)).entries
    (broken,) = [entry for entry in entries if not entry.dataset]
    assert broken.images == 0
    clear([broken])
    assert not broken.folder.exists()


def test_a_cache_that_is_not_there_is_empty(tmp_path):
    state = cache_state(FeatureCache(tmp_path / "none" / "yet"))
    assert state.entries == ()
    assert state.free > 0


def test_what_is_old_or_of_a_dataset_is_chosen(root):
    entries = cache_state(FeatureCache(root)).entries
    assert [entry.dataset for entry in chosen(entries, older_than=30)] == ["visa"]
    assert len(chosen(entries, "mvtec_ad")) == 2
    assert chosen(entries, "mvtec_ad", older_than=30) == []


def zsad_cache(root, *arguments):
    result = CliRunner().invoke(app, arguments, env={"ZSAD_FEATURES": str(root)})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_lists_and_clears(root):
    assert "mvtec-ad" in zsad_cache(root, "list")
    listed = json.loads(zsad_cache(root, "list", "--json"))
    assert listed["used"] == sum(entry["bytes"] for entry in listed["entries"])
    assert "in 1 of 3 folders would be freed" in zsad_cache(
        root, "clear", "--older-than", "30", "--dry-run"
    )
    assert len(cache_state(FeatureCache(root)).entries) == 3
    done = json.loads(zsad_cache(root, "clear", "--dataset", "mvtec-ad", "--json"))
    assert done["deleted"] and len(done["entries"]) == 2
    assert [entry.dataset for entry in cache_state(FeatureCache(root)).entries] == ["visa"]
    assert "freed" in zsad_cache(root, "clear")
    assert sorted(path.name for path in root.iterdir()) == ["mine"]
