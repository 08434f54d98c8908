"""A GPU computes as a CPU does unless tf32 is asked for, and the process keeps its own switches."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch
from zsad.bench import create, load_backbone
from zsad.bench.arithmetic import single_precision
from zsad.bench.backbone import TokenSpec
from zsad.bench.errors import UsageError
from zsad.bench.progress import Progress
from zsad.bench.records.protocol import differing_entries
from zsad.bench.running import parallel
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny")


def switches():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def odd_switches():
    """Neither all on nor all off, so that whatever is not put back is seen."""
    before = switches()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def elsewhere(backbone, precision):
    """A backbone that takes itself for one on a GPU, though its weights are here."""
    return dataclasses.replace(backbone, device=torch.device("cuda"), precision=precision)


def test_the_innermost_block_counts_and_what_was_there_comes_back():
    with single_precision():
        assert switches() == (False, False)
        with single_precision(tf32=True):
            assert switches() == (True, True)
        assert switches() == (False, False)
    assert switches() == (True, False)


def test_an_error_in_a_block_puts_the_switches_back():
    with pytest.raises(ZeroDivisionError), single_precision():
        raise ZeroDivisionError
    assert switches() == (True, False)


def test_threads_that_leave_in_any_order_put_back_what_was_there():
    entered, leave = threading.Event(), threading.Event()

    def work():
        with single_precision():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=work)
    with single_precision():
        other.start()
        assert entered.wait(10)
    assert switches() == (False, False)  # the other thread is still at work
    leave.set()
    other.join()
    assert switches() == (True, False)


@pytest.mark.parametrize(
    ("precision", "images", "text"), [("fp32", False, False), ("tf32", True, False)]
)
def test_tf32_is_of_the_visual_tower_alone(backbone, precision, images, text):
    there, seen = elsewhere(backbone, precision), []
    size = there.native_size

    def look(number, tokens):
        seen.append(switches())
        return tokens

    there.forward_image(torch.zeros(1, 3, size, size), [TokenSpec(1)], before=look)
    assert set(seen) == {(images, images)}
    seen.clear()
    hook = there.text.ln_final.register_forward_hook(lambda *_: seen.append(switches()))
    try:
        there.encode_embeddings(torch.zeros(1, 3, there.text_width), torch.tensor([2]))
    finally:
        hook.remove()
    assert seen == [(text, text)]
    assert switches() == (True, False)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_autocast_is_of_the_blocks_of_the_visual_tower_alone(backbone, precision):
    reduced = load_backbone("tiny", precision=precision)
    images = torch.rand(2, 3, backbone.native_size, backbone.native_size)
    entering, leaving = specs = TokenSpec(0), TokenSpec(1)
    here, there = (one.encode_image(images, specs).tokens for one in (backbone, reduced))
    assert torch.equal(there[entering], here[entering])
    assert not torch.equal(there[leaving], here[leaving])
    prompts = ["a photo of a nut", "a photo of a damaged nut"]
    assert torch.equal(reduced.encode_text(prompts), backbone.encode_text(prompts))


def test_channels_lie_last_for_the_patch_convolution_of_a_gpu(backbone):
    size, seen = backbone.native_size, []
    images = torch.rand(2, 3, size, size)
    hook = backbone.visual.conv1.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    try:
        here = backbone.encode_image(images).class_token
        there = elsewhere(backbone, "fp32").encode_image(images).class_token
    finally:
        hook.remove()
    assert seen == [False, True]
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


def test_tf32_needs_a_gpu(tmp_path):
    with pytest.raises(UsageError, match=r"'tf32'.*'cpu'.*--device cuda, or --precision fp32"):
        load_backbone("tiny", precision="tf32")
    with pytest.raises(UsageError, match="tf32"):
        make_plan(["clip"], precision="tf32", out=tmp_path)
    assert make_plan(["clip"], precision="tf32", device="cuda:1", out=tmp_path).device == "cuda:1"


def test_threads_do_not_share_the_switch_of_tf32(tmp_path):
    plan = make_plan(["clip"], precision="tf32", device="cuda", out=tmp_path)
    with pytest.raises(UsageError, match="--parallel loky"):
        parallel.run(plan, Progress(), jobs=2, backend="threads")


def test_a_run_computes_without_tf32_and_leaves_the_switches_alone(tmp_path, monkeypatch):
    seen = []

    def look(*_):
        seen.append(switches())
        raise RuntimeError("seen")

    monkeypatch.setattr("zsad.bench.running.runner.prepare", look)
    with pytest.raises(RuntimeError, match="seen"):
        run(make_plan(["clip"], out=tmp_path, limit=1))
    assert seen == [(False, False)]
    assert switches() == (True, False)


def test_what_is_stated_of_tf32_sets_no_two_records_apart():
    assert differing_entries({"precision": "fp32"}, {"precision": "fp32", "tf32": "nowhere"}) == []
    assert differing_entries({"precision": "fp32"}, {"precision": "tf32"}) == ["precision"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(
    ("precision", "allowed"), [("fp32", 2e-5), ("tf32", 5e-3), ("fp16", 5e-3), ("bf16", 4e-2)]
)
def test_features_of_a_gpu_are_those_of_the_cpu(backbone, precision, allowed):
    size = backbone.native_size
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    there = load_backbone("tiny", device="cuda", precision=precision)
    here = backbone.encode_image(images).class_token
    found = there.encode_image(images.cuda()).class_token.cpu()
    assert float((found - here).abs().max()) <= allowed * float(here.abs().max())
    assert create("clip", there).forward_key()[4] == precision
