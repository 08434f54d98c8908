"""The visual forward is compiled where torch can, and is the usual one where it cannot."""

from __future__ import annotations

import functools
import logging
import shutil

import pytest
import torch
from zsad.bench import load_backbone, load_dataset
from zsad.bench.backbone import TokenSpec
from zsad.bench.compiled_block import CompiledBlock
from zsad.bench.errors import UsageError
from zsad.bench.progress import Progress
from zsad.bench.running.identity import Identities
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.plan import make_plan
from zsad.bench.running.prepare import cached_backbone, prepare

SPECS = {TokenSpec(2), TokenSpec(4, 2)}


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def images(backbone):
    size = backbone.native_size
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))


def difference(one, other):
    tokens = [(one.tokens[spec] - other.tokens[spec]).abs().max() for spec in SPECS]
    return float(max([(one.class_token - other.class_token).abs().max(), *tokens]))


class Compiler:
    """In the place of torch.compile: says what it was given, and fails at once, later or never."""

    def __init__(self, patch, fails=(), error=None):
        self.calls, self.fails = 0, fails
        self.error = error or RuntimeError("No working C++ compiler found\nand a long story")
        patch.setattr(torch, "compile", self.compile)

    def compile(self, function, dynamic):
        assert dynamic

        def compiled(*arguments):
            self.calls += 1
            if self.calls in self.fails:
                raise self.error
            return function(*arguments)

        return compiled


def test_every_block_of_a_shared_forward_is_the_compiled_one(backbone, images, monkeypatch):
    compiler = Compiler(monkeypatch)
    compiled = backbone.with_compiled_blocks()
    tried, counted = compiler.calls, backbone.counter.images
    found = compiled.encode_image(images, SPECS)
    assert compiler.calls - tried == backbone.depth
    assert backbone.counter.images - counted == len(images)  # the attempt is not counted
    assert difference(found, backbone.encode_image(images, SPECS)) == 0
    assert compiled.forward_key(backbone.native_size) != backbone.forward_key(backbone.native_size)


@pytest.mark.parametrize("fails", [{1}, {12}])
def test_what_cannot_be_compiled_runs_as_it_is_and_one_warning_says_why(
    backbone, images, monkeypatch, caplog, fails
):
    Compiler(monkeypatch, fails)
    with caplog.at_level(logging.WARNING):
        chosen = backbone.with_compiled_blocks()
        found = [chosen.encode_image(images, SPECS) for _ in range(2)]
    assert (chosen is backbone) == (fails == {1})
    assert all(difference(one, backbone.encode_image(images, SPECS)) == 0 for one in found)
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == [
        "the visual forward runs without being compiled: No working C++ compiler found"
    ]


def test_memory_that_runs_out_is_no_fault_of_the_compiler(backbone, images, monkeypatch):
    Compiler(monkeypatch, {1}, torch.OutOfMemoryError("CUDA out of memory"))
    block = CompiledBlock()
    with pytest.raises(torch.OutOfMemoryError):
        block(backbone.visual.transformer.resblocks[0], images, "own", False, "gelu")
    assert not block.failure


def test_an_error_of_the_block_itself_stays_one(backbone, monkeypatch):
    Compiler(monkeypatch, {1}, UsageError("no"))
    block = CompiledBlock()
    with pytest.raises(RuntimeError, match="shape|size"):
        block(backbone.visual.transformer.resblocks[0], torch.rand(1, 2, 3), "own", False, "gelu")
    assert not block.failure


def test_torch_captures_a_block_whole_for_any_batch(backbone, images, monkeypatch):
    strict = functools.partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", strict)
    compiled = backbone.with_compiled_blocks()
    assert compiled.compiled is not None
    for some in (images, images[:1]):
        found, expected = (one.encode_image(some, SPECS) for one in (compiled, backbone))
        assert difference(found, expected) < 1e-5
    assert compiled.compiled.failure == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_features_are_the_usual_ones(backbone, images):
    compiled = backbone.with_compiled_blocks()
    assert compiled.compiled is not None
    found, expected = (one.encode_image(images, SPECS) for one in (compiled, backbone))
    assert 0 < difference(found, expected) < 1e-4


def test_a_record_says_that_its_forward_was_compiled(tmp_path, monkeypatch):
    Compiler(monkeypatch)
    usual, asked = (
        make_plan(["clip"], out=tmp_path, compile=compiled) for compiled in (False, True)
    )
    dataset, stated, identities = load_dataset("synthetic"), [], []
    cached_backbone.cache_clear()
    for plan in (usual, asked):
        datasets = OpenDatasets(plan.limit)
        (one,) = prepare(plan, dataset, plan.jobs(), datasets, Progress())
        stated.append(one.protocol)
        identities.append(Identities(plan, datasets).of_job(plan.jobs()[0], dataset))
    cached_backbone.cache_clear()
    assert stated[1] == {**stated[0], "compiled": True}
    assert identities[1] == {**identities[0], "compiled": "where that can be"}
