"""What the built-in backbone can do on the built-in test set, beside random weights.

    python benchmarks/builtin.py [--weights FILE]

Prints, in percent and averaged over the six categories: image AUROC of a prompt ensemble (all, and
with anomalous images of defect kinds that no training ever showed), and pixel AUROC / PRO of plain
and of V-V patch tokens against the same prompts, unsmoothed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from _result import parser_of, result_of
from zsad.bench import create, load_backbone, load_dataset
from zsad.bench.anomaly_maps import state_probabilities, upsample
from zsad.bench.backbone import Backbone, TokenSpec
from zsad.bench.metrics import auroc, pro
from zsad.datasets._damage import UNSEEN

COLUMNS = (
    "weights",
    "image AUROC",
    "unseen defects",
    "plain pixel AUROC",
    "plain PRO",
    "V-V pixel AUROC",
    "V-V PRO",
)


@torch.no_grad()
def measure(backbone: Backbone) -> list[float]:
    """The six numbers of `COLUMNS`, in [0, 1]."""
    dataset = load_dataset("synthetic")
    method = create("clip-ac", backbone, prompts="april")
    plain, value = TokenSpec(backbone.depth), TokenSpec(backbone.depth, backbone.layer(6))
    samples = dataset.samples("test")
    rows = []
    for category in dict.fromkeys(s.category for s in samples):
        chosen = [s for s in samples if s.category == category]
        readings = [dataset.read(s) for s in chosen]
        images = torch.stack([method.preprocess(r.image) for r in readings])
        masks = np.stack([r.mask for r in readings])
        labels = np.array([s.label for s in chosen])
        kept = np.array([s.label == 0 or s.anomaly_type in UNSEEN for s in chosen])
        features = backbone.encode_image(images, {plain, value})
        text = method.text([chosen[0].class_name])
        scores = state_probabilities(features.class_token, text, 0.07)[:, 1].numpy()
        row = [auroc(labels, scores), auroc(labels[kept], scores[kept])]
        for spec in (plain, value):
            patches = backbone.project(features.tokens[spec])
            patch_map = state_probabilities(patches, text, 0.07)[..., 1]
            maps = upsample(patch_map, features.grid, images.shape[-1]).numpy()
            row += [auroc(masks, maps), pro(masks, maps)]
        rows.append(row)
    return [float(v) for v in np.mean(rows, axis=0)]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    rows = []
    for weights in (*arguments.weights, None, "random"):
        numbers = measure(load_backbone("tiny", weights))
        rows.append([{None: "shipped"}.get(weights, str(weights)), *(100 * n for n in numbers)])
    result = result_of(__file__, arguments)
    result.table("The built-in backbone on the built-in test set, percent", COLUMNS, rows, ".1f")
    result.write()


if __name__ == "__main__":
    main()
