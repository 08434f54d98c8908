"""Train the built-in backbone from scratch.

    python -m zsad.bench.tiny.train --seed 1 --out tiny-1

Contrastive learning on drawings and captions, as CLIP's, with three differences that a CLIP of a
million pixels needs and the real one does not: several captions of a batch may be true of an
image; the patch tokens are taught too, from the exact masks, those of the ordinary path and those
of the V-V path alike; and the text tower learns the captions before it sees pictures. Works on the
CPU and on CUDA, is seeded, resumes where it was killed, and logs JSON lines.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone import Backbone, TokenSpec
from ..backbone_spec import BUILT_IN, RANDOM
from ..checkpoint import write_tensors
from ..files import whole_file
from ..metrics import auroc, pro
from ..weights import load_backbone
from .captions import GENERAL, STATES, TEMPLATES, WORDINGS, Captions, write
from .pictures import draw_pictures, normalised
from .towers import Text, see

LOG = logging.getLogger(__name__)
catalogue = importlib.import_module("...datasets._kinds", __package__)

TEXT_STEPS, TEXT_BATCH, TEXT_RATE = 600, 96, 2e-3
RATE, WEIGHT_DECAY, TEXT_RATE_SHARE, WARM_UP = 1.5e-3, 0.05, 0.1, 60
FLAT = 0.4  # share of the steps before the rate falls along a cosine
TEMPERATURE, LARGEST_SCALE = 0.07, 50.0
PATCH_WEIGHT, VALUE_WEIGHT = 1.0, 1.0
WINDOWS = {12: (0.40, 48), 8: (0.45, 64), 3: (0.15, 160)}  # side in patches: share, batch
LATE_WINDOWS = {12: (0.75, 48), 8: (0.15, 64), 3: (0.10, 160)}  # mostly whole pictures
LATE = 0.6  # share of the steps before them
VALUE_STARTS = (1, 2)  # V-V paths branch off at block 1 (AnoVL) or 2 (block 6 of 24)
NEAR_DEFECT = 0.8  # share of windows that are laid over the defect
PATCH_IS_ANOMALOUS, WINDOW_IS_ANOMALOUS = 0.15, 0.2  # covered share of a patch; patches covered
STRANGE_WORDS = 1500
CHECKPOINT_EVERY = 500


# -- losses -------------------------------------------------------------------------------------


def _shares(true: Tensor) -> Tensor:
    """Each row of truths [.., N] divided by its number of true ones."""
    return true / true.sum(dim=-1, keepdim=True).clamp(min=1)


def several_true(logits: Tensor, true: Tensor) -> Tensor:
    """Cross-entropy [N] of rows of logits with the mean over all that is true; 0 without any."""
    return -(_shares(true) * logits.log_softmax(dim=-1)).sum(dim=-1)


def image_loss(logits: Tensor, true: Tensor) -> Tensor:
    """Both directions of the contrastive loss; logits and truth are [images, captions]."""
    return 0.5 * (several_true(logits, true).mean() + several_true(logits.T, true.T).mean())


def patch_loss(
    logits: Tensor, true: Tensor, true_if_normal: Tensor, anomalous: Tensor, normal: Tensor
) -> Tensor:
    """The image-to-text loss of single patches, both kinds weighing the same.

    Args:
        logits: [B, L, N].
        true: [B, N] captions that are true of the defect.
        true_if_normal: [B, N] captions that were true without it.
        anomalous: [B, L] patches the defect covers.
        normal: [B, L] patches it does not touch.
    """
    rows = logits.log_softmax(dim=-1)
    of_defect = -torch.einsum("bln,bn->bl", rows, _shares(true))
    of_normal = -torch.einsum("bln,bn->bl", rows, _shares(true_if_normal))
    return 0.5 * (
        (of_defect * anomalous).sum() / anomalous.sum().clamp(min=1)
        + (of_normal * normal).sum() / normal.sum().clamp(min=1)
    )


# -- training -----------------------------------------------------------------------------------


class Trainer:
    """All that a training holds, so that it can be saved and resumed."""

    def __init__(self, seed: int, steps: int, pairs: int, device: str, half: bool = False) -> None:
        torch.manual_seed(seed)
        self.seed, self.steps, self.half = seed, steps, half
        self.backbone = load_backbone(BUILT_IN, RANDOM, device=device)
        model = self.backbone.model
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        model.token_embedding.weight.requires_grad_(False)
        with torch.no_grad():
            model.logit_scale.fill_(math.log(1 / TEMPERATURE))
        self.model = model
        self.kinds = catalogue.BACKBONE_KINDS
        self.names = [kind.name for kind in self.kinds]
        self.random = np.random.default_rng(seed)
        self.strange = strange_words()
        self.text = Text(self.backbone, vocabulary(self.names, self.strange)).to(device)
        self.pictures = draw_pictures(pairs, seed, self.kinds, self.backbone.patch_size)
        self.optimizer = self._optimizer()
        self.step = 0

    def _optimizer(self) -> torch.optim.Optimizer:
        decayed: list[nn.Parameter] = []
        plain = [self.model.logit_scale]
        text = [self.text.words]
        for name, parameter in self.model.named_parameters():
            if name.startswith("visual"):
                is_plain = parameter.dim() < 2 or "embedding" in name
                (plain if is_plain else decayed).append(parameter)
            elif name != "logit_scale" and parameter.requires_grad:
                text.append(parameter)
        groups = [
            {"params": decayed, "weight_decay": WEIGHT_DECAY, "share": 1.0},
            {"params": plain, "weight_decay": 0.0, "share": 1.0},
            {"params": text, "weight_decay": 0.0, "share": TEXT_RATE_SHARE},
        ]
        return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))

    def captions(self, classes: NDArray[np.int64], states: NDArray[np.int64]) -> Captions:
        """Captions of a batch of things."""
        return write(self.random, self.names, classes, states, self.strange)

    def learn_words(self) -> None:
        """Fit the text tower to a free vector per class and state: captions before pictures."""
        device, width = self.backbone.device, self.backbone.embed_dim
        things = nn.Parameter(0.3 * torch.randn(len(self.names), width, device=device))
        states = nn.Parameter(0.3 * torch.randn(len(STATES), width, device=device))
        with torch.no_grad():
            states[0] -= 0.5 * torch.ones(width, device=device) / width**0.5
            states[1:] += 0.5 * torch.ones(width, device=device) / width**0.5
        text = [p for g in self.optimizer.param_groups[2:] for p in g["params"]]
        optimizer = torch.optim.AdamW([*text, things, states], lr=TEXT_RATE, betas=(0.9, 0.98))
        for step in range(TEXT_STEPS):
            rate = TEXT_RATE * min(1, (step + 1) / 30)
            optimizer.param_groups[0]["lr"] = rate * cosine(step / TEXT_STEPS)
            classes = self.random.integers(len(self.names), size=TEXT_BATCH)
            state = self.random.integers(1, len(STATES), size=TEXT_BATCH)
            state[::2] = 0
            captions = self.captions(classes, state)
            true = torch.from_numpy(captions.true_of(classes, state)).float().to(device)
            meant = things[torch.from_numpy(classes)] + states[torch.from_numpy(state)]
            oracle = F.normalize(meant)
            loss = image_loss(oracle @ self.text(captions.texts).T / TEMPERATURE, true)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if step % 100 == 99:
                LOG.info(json.dumps({"text_step": step + 1, "loss": round(loss.item(), 4)}))

    def batch(self) -> tuple[Tensor, NDArray[Any], NDArray[Any], NDArray[Any], tuple[int, int]]:
        """Windows, classes, states, covered shares [B, L], and the corner of the positions."""
        windows = WINDOWS if self.step < LATE * self.steps else LATE_WINDOWS
        side = int(self.random.choice(list(windows), p=[share for share, _ in windows.values()]))
        size, grid, patch = windows[side][1], self.backbone.native_grid, self.backbone.patch_size
        chosen = self.random.integers(len(self.pictures.classes), size=size // 2)
        corner = self.random.integers(grid - side + 1, size=2)
        pixels, covered = [], []
        for number in chosen:
            row, column = self._corner(self.pictures.covered[number], side)
            top, left = row * patch, column * patch
            for which in (0, 1):
                picture = self.pictures.pixels[number, which]
                pixels.append(picture[top : top + side * patch, left : left + side * patch])
                share = self.pictures.covered[number, row : row + side, column : column + side]
                covered.append(share * which)
        images, shares = self._turned(np.stack(pixels), np.stack(covered))
        shares = shares.reshape(size, -1)
        states = np.repeat(self.pictures.states[chosen], 2)
        states[shares.sum(1) < WINDOW_IS_ANOMALOUS] = 0
        classes = np.repeat(self.pictures.classes[chosen], 2)
        windows_seen = normalised(images, self.backbone.device)
        return windows_seen, classes, states, shares, (corner[0], corner[1])

    def _corner(self, covered: NDArray[np.float32], side: int) -> tuple[int, int]:
        """Where a window is laid: mostly over the defect."""
        most = covered.shape[0] - side
        row, column = (int(v) for v in self.random.integers(most + 1, size=2))
        rows, columns = np.nonzero(covered > 0.2)
        if most and len(rows) and self.random.random() < NEAR_DEFECT:
            i = self.random.integers(len(rows))
            row = int(np.clip(rows[i] - self.random.integers(side), 0, most))
            column = int(np.clip(columns[i] - self.random.integers(side), 0, most))
        return row, column

    def _turned(self, pixels: NDArray[Any], covered: NDArray[Any]) -> tuple[Any, Any]:
        """Random quarter turns, mirror images and colour orders, the same for the whole batch."""
        turns = int(self.random.integers(4))
        pixels, covered = np.rot90(pixels, turns, (1, 2)), np.rot90(covered, turns, (1, 2))
        if self.random.random() < 0.5:
            pixels, covered = pixels[:, :, ::-1], covered[:, :, ::-1]
        if self.random.random() < 0.5:
            pixels = pixels[..., self.random.permutation(3)]
        return np.ascontiguousarray(pixels), np.ascontiguousarray(covered)

    def one_step(self) -> dict[str, float]:
        """One optimiser step; returns the loss terms."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * self._rate()
        images, classes, states, covered, corner = self.batch()
        start = VALUE_STARTS[self.random.integers(len(VALUE_STARTS))]
        captions = self.captions(classes, states)
        device = self.backbone.device
        true = torch.from_numpy(captions.true_of(classes, states)).float().to(device)
        if_normal = torch.from_numpy(captions.true_of(classes, 0 * states)).float().to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            seen = see(self.backbone, images, corner, start)
        text = self.text(captions.texts)
        scale = self.model.logit_scale.exp()
        share = torch.from_numpy(covered).to(device)
        defective = torch.from_numpy(states > 0).to(device)[:, None]
        anomalous, normal = (share > PATCH_IS_ANOMALOUS) & defective, share == 0
        of_image = image_loss(scale * seen.image @ text.T, true)
        of_patch, of_value = (
            patch_loss(scale * tokens @ text.T, true, if_normal, anomalous, normal)
            for tokens in (seen.patches, seen.value_patches)
        )
        loss = of_image + PATCH_WEIGHT * of_patch + VALUE_WEIGHT * of_value
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_([*self.model.parameters(), self.text.words], 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(LARGEST_SCALE))
        self.step += 1
        return {"image": of_image.item(), "patch": of_patch.item(), "value": of_value.item()}

    def _rate(self) -> float:
        done = self.step / self.steps
        fall = 1.0 if done < FLAT else cosine((done - FLAT) / (1 - FLAT))
        return RATE * min(1, (self.step + 1) / WARM_UP) * fall + 1e-6

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "text": self.text.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": json.dumps(self.random.bit_generator.state),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from `state`."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.text.load_state_dict(state["text"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.bit_generator.state = json.loads(state["random"])


def cosine(share: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 + 0.5 * math.cos(math.pi * share)


def strange_words() -> list[str]:
    """Common words of the vocabulary that captions use without meaning."""
    encoder = open_clip.SimpleTokenizer().encoder
    words = [w.removesuffix("</w>") for w in encoder if w.endswith("</w>")]
    plain = [w for w in words if w.isascii() and w.isalpha() and 3 <= len(w) <= 10]
    return plain[500 : 500 + 8 * STRANGE_WORDS : 8]


def vocabulary(names: list[str], strange: list[str]) -> list[str]:
    """Texts that hold every word a caption can have."""
    phrases = [text.replace("{}", "") for text in (*(w.phrase for w in WORDINGS), *TEMPLATES)]
    return [*names, *strange, *phrases, *GENERAL, "an"]


@torch.no_grad()
def validation(backbone: Backbone, per_class: int = 28) -> dict[str, float]:
    """Image AUROC and pixel AUROC / PRO of both paths on the validation classes and defects."""
    backbone.model.eval()
    last = TokenSpec(backbone.depth), TokenSpec(backbone.depth, backbone.layer(6))
    found: dict[str, list[float]] = {}
    for number, kind in enumerate(catalogue.VALIDATION_KINDS):
        patch, defects = backbone.patch_size, catalogue.VALIDATION_DEFECTS
        pictures = draw_pictures(per_class, 1000 + number, (kind,), patch, 0.0, defects)
        pixels = pictures.pixels.reshape(-1, *pictures.pixels.shape[2:])
        features = backbone.encode_image(normalised(pixels, backbone.device), last)
        prompts = [f"a photo of a {state} {kind.name}." for state in ("normal", "damaged")]
        text = F.normalize(backbone.encode_text(prompts), dim=-1)
        labels = np.arange(len(pixels)) % 2
        masks = np.zeros((len(pixels), *pictures.covered.shape[1:]), bool)
        masks[1::2] = pictures.covered > PATCH_IS_ANOMALOUS

        def against(features: Tensor, text: Tensor = text) -> NDArray[np.float32]:
            cosines = F.normalize(features, dim=-1) @ text.T
            difference: NDArray[np.float32] = (cosines[..., 1] - cosines[..., 0]).cpu().numpy()
            return difference

        found.setdefault("image_auroc", []).append(auroc(labels, against(features.class_token)))
        for name, spec in zip(("plain", "value"), last, strict=True):
            maps = against(backbone.project(features.tokens[spec])).reshape(masks.shape)
            found.setdefault(f"{name}_pixel_auroc", []).append(auroc(masks, maps))
            found.setdefault(f"{name}_pro", []).append(pro(masks, maps))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def train(
    seed: int, out: Path, steps: int, pairs: int, device: str = "cpu", half: bool = False
) -> Path:
    """Train one backbone, or resume its training; returns the weights file.

    Args:
        seed: of the drawings, the initial weights and the order.
        out: folder for checkpoint, log and weights.
        steps: optimiser steps.
        pairs: drawn pairs of pictures.
        device: cpu or cuda.
        half: compute the visual tower in bfloat16.
    """
    out.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(out / "log.jsonl")
    LOG.addHandler(handler)
    trainer = Trainer(seed, steps, pairs, device, half)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_state(torch.load(checkpoint, map_location=device, weights_only=True))
    else:
        trainer.learn_words()
    begun, terms = time.monotonic(), dict[str, float]()
    while trainer.step < steps:
        terms = trainer.one_step()
        if trainer.step % CHECKPOINT_EVERY == 0 or trainer.step == steps:
            entry: dict[str, float] = {"step": trainer.step, "seconds": time.monotonic() - begun}
            trainer.text.store()
            entry |= terms | validation(trainer.backbone)
            LOG.info(json.dumps({name: round(value, 4) for name, value in entry.items()}))
            with whole_file(checkpoint) as file:
                torch.save(trainer.state(), file)
    trainer.text.store()
    weights = out / "tiny.safetensors"
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in trainer.model.state_dict().items()
        if not name.endswith("attn_mask")
    }
    write_tensors(weights, halves, {"seed": seed, "steps": steps, "pairs": pairs})
    LOG.removeHandler(handler)
    return weights


def main() -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description="Train the built-in backbone from scratch.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--half", action="store_true", help="visual tower in bfloat16: faster")
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.pop("threads"))
    train(**arguments)


if __name__ == "__main__":
    main()
