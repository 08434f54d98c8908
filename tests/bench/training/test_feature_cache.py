import json
import logging
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench.backbone import TokenSpec, VisualFeatures
from zsad.bench.dataset import Dataset, Sample
from zsad.bench.errors import FileError, UsageError, ZsadError
from zsad.bench.files import remove_abandoned
from zsad.bench.training.feature_cache import FeatureCache
from zsad.bench.training.sharded_array import SHARD
from zsad.bench.weights import load_backbone

CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
COUNT = SHARD + 5
SPECS = (TokenSpec(1), TokenSpec(2, value_from=1))
GRID = (2, 2)


class Dots(Dataset):
    name = "dots"
    title = "Dots"

    def samples(self, split="test"):
        return [
            Sample(
                self.root / f"{i}.png", i % 2, "dots", "dot", self.root / "m.png" if i % 2 else None
            )
            for i in range(COUNT)
        ]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "small.json"
    config.write_text(json.dumps(CONFIG))
    return load_backbone(config=config, pretrained="random")


@pytest.fixture
def dots(tmp_path):
    root = tmp_path / "dots"
    root.mkdir()
    for i in range(COUNT):
        Image.fromarray(np.full((2, 2, 3), i, dtype=np.uint8)).save(root / f"{i}.png")
    Image.fromarray(np.full((2, 2), 255, dtype=np.uint8)).save(root / "m.png")
    return Dots(root)


def random_features(rows, seed=0, specs=SPECS):
    drawn = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(rows, *shape, generator=drawn)

    return VisualFeatures(draw(16), draw(16), {spec: draw(4, 32) for spec in specs}, GRID)


def opened(cache, backbone, dots, specs=SPECS, key=("w", "own"), size=16):
    return cache.features(backbone, key, size, specs, dots, dots.samples())


def fill(cached, features):
    for shard in range(cached.class_token.shards):
        rows = slice(shard * SHARD, (shard + 1) * SHARD)
        cached.write(shard, features.map(lambda t, rows=rows: t[rows]))


def test_features_come_back_exactly_in_any_order(tmp_path, backbone, dots):
    features = random_features(COUNT)
    cache = FeatureCache(tmp_path / "cache")
    fill(opened(cache, backbone, dots), features)

    cached = opened(cache, backbone, dots)
    assert cached.missing() == []
    order = [COUNT - 1, 0, SHARD, SHARD - 1, 3]
    read = cached.batch(order, SPECS[1:])
    assert torch.equal(read.class_token, features.class_token[order])
    assert torch.equal(read.class_token_no_ln, features.class_token_no_ln[order])
    assert torch.equal(read.tokens[SPECS[1]], features.tokens[SPECS[1]][order])
    assert set(read.tokens) == {SPECS[1]}
    assert read.grid == GRID


def test_half_precision_takes_half_the_bytes_and_rounds(tmp_path, backbone, dots):
    features = random_features(COUNT)
    single, half = FeatureCache(tmp_path / "a"), FeatureCache(tmp_path / "b", "fp16")
    for cache in (single, half):
        fill(opened(cache, backbone, dots), features)
    read = opened(half, backbone, dots).batch([1], SPECS).class_token
    assert read.dtype == torch.float32
    assert torch.equal(read, features.class_token[[1]].half().float())
    assert half.used() < 0.6 * single.used()


def test_features_that_half_precision_cannot_hold_are_refused(tmp_path, backbone, dots):
    cached = opened(FeatureCache(tmp_path / "half", "fp16"), backbone, dots)
    with pytest.raises(ZsadError, match=r"reach 70000, .* keep them in full precision"):
        fill(cached, random_features(COUNT).map(lambda t: t * 0 + 7e4))
    assert cached.missing() == [0, 1]


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown feature precision 'fp15': did you mean fp16"):
        FeatureCache(tmp_path, "fp15")


def test_features_without_room_are_rounded_as_kept_ones_are(tmp_path):
    features = random_features(3)
    assert FeatureCache(tmp_path).rounded(features) is features
    half = FeatureCache(tmp_path, "fp16")
    rounded = half.rounded(features)
    assert torch.equal(rounded.class_token, features.class_token.half().float())
    with pytest.raises(ZsadError, match="reach 70000, .*--feature-precision full"):
        half.rounded(features.map(lambda t: t * 0 + 7e4))


def test_a_checksum_is_compared_once_in_a_process_and_again_where_a_file_changed(
    tmp_path, backbone, dots
):
    cache = FeatureCache(tmp_path / "cache")
    fill(opened(cache, backbone, dots), random_features(COUNT))
    assert opened(cache, backbone, dots).missing() == []
    path = opened(cache, backbone, dots).class_token.folder / "00000.npy"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, (1, 1))
    assert opened(cache, backbone, dots).missing() == [0]


def test_asking_for_features_and_masks_says_that_they_are_used(tmp_path, backbone, dots):
    cache = FeatureCache(tmp_path / "cache")

    def ask():
        masks = cache.masks(dots, dots.samples(), 11).bits.folder
        return [opened(cache, backbone, dots).class_token.folder.parent, masks.parent]

    for folder in ask():
        os.utime(folder / "key.json", (1, 1))
    for folder in ask():
        key = folder / "key.json"
        assert key.stat().st_mtime > time.time() - 60
        assert json.loads(key.read_text())["images"] == COUNT


def test_only_the_tokens_asked_for_are_kept_and_later_ones_are_added(tmp_path, backbone, dots):
    features = random_features(COUNT)
    cache = FeatureCache(tmp_path / "cache")
    fill(opened(cache, backbone, dots, SPECS[:1]), features)
    folders = {path.name for path in next((tmp_path / "cache").iterdir()).iterdir()}
    assert folders == {"key.json", "class_token", "class_token_no_ln", "tokens-01"}

    more = opened(cache, backbone, dots, SPECS)
    assert more.missing() == list(range(more.class_token.shards))
    assert more.specs_missing(0) == {SPECS[1]}
    assert opened(cache, backbone, dots, SPECS[:1]).missing() == []


def test_a_killed_writer_leaves_nothing_that_is_read(tmp_path, backbone, dots):
    cache = FeatureCache(tmp_path / "cache")
    cached = opened(cache, backbone, dots)
    fill(cached, random_features(COUNT))
    folder = cached.class_token.folder
    whole = folder / "00000.npy"
    torn = folder / ".00000.host.1.tmp"
    torn.write_bytes(whole.read_bytes()[:100])
    whole.unlink()
    again = opened(cache, backbone, dots)
    assert again.missing() == [0]
    with pytest.raises(KeyError):
        again.class_token.rows([0])

    remove_abandoned(cache.root)
    assert torn.exists(), "a living writer keeps its file"
    os.utime(torn, (time.time() - 2 * 86400,) * 2)
    remove_abandoned(cache.root)
    assert not torn.exists()


@pytest.mark.parametrize("damage", ["cut", "garbage", "other shape", "pickle", "flipped bit"])
def test_a_broken_shard_is_computed_again(tmp_path, backbone, dots, damage, caplog):
    cache = FeatureCache(tmp_path / "cache")
    cached = opened(cache, backbone, dots)
    fill(cached, random_features(COUNT))
    path = cached.class_token.folder / "00001.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "garbage":
        path.write_bytes(b"\x00" * 500)
    elif damage == "flipped bit":
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    elif damage == "other shape":
        np.save(path, np.zeros((5, 3), dtype=np.float32))
    else:
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with caplog.at_level(logging.WARNING):
        assert opened(cache, backbone, dots).missing() == [1]
    assert "broken" in caplog.text
    assert not path.exists()


def test_a_failed_write_leaves_no_litter(tmp_path, backbone, dots, monkeypatch):
    cached = opened(FeatureCache(tmp_path / "cache"), backbone, dots)

    def full_disk(*_args, **_how):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(FileError, match=r"00000.npy cannot be written \(no space"):
        cached.write(0, random_features(SHARD))
    assert not [path for path in (tmp_path / "cache").rglob("*") if "0000" in path.name]


def test_everything_that_features_depend_on_is_in_the_key(tmp_path, backbone, dots, monkeypatch):
    cache = FeatureCache(tmp_path / "cache")

    def folder(the_dataset=dots, key=("w", "own"), the_cache=cache, size=16):
        return opened(the_cache, backbone, the_dataset, key=key, size=size).class_token.folder

    base = folder()
    assert folder() == base
    assert folder(Dots(dots.root, class_names="readable")) == base
    differing = [
        folder(key=("other weights", "own")),
        folder(key=("w", "gelu")),
        folder(Dots(dots.root, orientation="stored")),
        folder(the_cache=FeatureCache(cache.root, "fp16")),
    ]
    with monkeypatch.context() as patch:
        patch.setattr("zsad.bench.training.feature_cache.bench_code", lambda modules: "other code")
        differing.append(folder())
    os.utime(dots.root / "7.png", (1, 1))
    assert folder() == base, "times are not content"
    (dots.root / "7.png").write_bytes((dots.root / "8.png").read_bytes())
    differing.append(folder())
    assert len({base, *differing}) == 1 + len(differing)


def test_masks_come_back_bit_by_bit_and_follow_rule_and_size(tmp_path, dots):
    cache = FeatureCache(tmp_path / "cache")
    truth = torch.rand(COUNT, 11, 11, generator=torch.Generator().manual_seed(0)) > 0.5
    cached = cache.masks(dots, dots.samples(), 11)
    for shard in cached.missing():
        cached.write(shard, truth[shard * SHARD : (shard + 1) * SHARD])
    order = [COUNT - 1, 2, 2, SHARD]
    assert torch.equal(cache.masks(dots, dots.samples(), 11).batch(order), truth[order])

    others = [
        cache.masks(dots, dots.samples(), 12),
        cache.masks(Dots(dots.root, mask_resize="nearest"), dots.samples(), 11),
        cache.masks(Dots(dots.root, mask_threshold=9), dots.samples(), 11),
    ]
    assert len({m.bits.folder for m in (cached, *others)}) == 4


def test_the_budget_is_kept_and_the_log_says_so(tmp_path, backbone, dots, caplog):
    needed = sum(a.nbytes for a in opened(FeatureCache(tmp_path / "x"), backbone, dots).arrays())
    small = FeatureCache(tmp_path / "cache", budget=needed - 1)
    with caplog.at_level(logging.WARNING):
        assert not small.has_room_for(opened(small, backbone, dots))
    assert "do not fit the cache" in caplog.text
    enough = FeatureCache(tmp_path / "cache", budget=needed + 1)
    cached = opened(enough, backbone, dots)
    assert enough.has_room_for(cached)
    fill(cached, random_features(COUNT))
    assert small.has_room_for(opened(small, backbone, dots)), "what is there needs no room"
    other = opened(enough, backbone, dots, key=("other", "own"))
    assert not enough.has_room_for(other), "what others use counts"
