"""How close the shared visual forward comes to the device's own matrix products.

    python benchmarks/forward.py [--device cuda] [--backbone ViT-L-14-336-quickgelu] [--images 64]

Asked for are the patch tokens of four layers and the V-V tokens that AnomalyCLIP reads, at 518 px.
Floating point operations are counted while one batch goes through; the peak is the rate of a square
matrix product in the same arithmetic, measured in the same process.
"""

from __future__ import annotations

import argparse

import torch
from _backbone import add_arguments, backbone_of
from _measure import timed
from _result import parser_of, result_of
from torch.utils.flop_counter import FlopCounterMode
from zsad.bench import create
from zsad.bench.arithmetic import single_precision

READERS = ("clip", "april-gan", "anomalyclip", "faprompt")
ARITHMETIC = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
UNCOUNTED = 2  # the first calls allocate memory and choose kernels


def peak_rate(dtype: torch.dtype, device: torch.device, repeats: int) -> float:
    """Operations a second of a square matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / timed(lambda: a @ b, device, repeats, UNCOUNTED)


def measured(arguments: argparse.Namespace, arithmetic: str) -> list[list[object]]:
    """Rows of the table, one for each size of a batch that fits."""
    arguments.precision = arithmetic
    backbone = backbone_of(arguments)
    device = backbone.device
    methods = [create(name, backbone) for name in READERS]
    specs = frozenset().union(*(method.token_specs for method in methods))
    size = methods[-1].image_size
    limit = peak_rate(ARITHMETIC[arithmetic], device, arguments.repeats)
    rows: list[list[object]] = []
    for batch in sorted({1, min(8, arguments.images), arguments.images}):
        pixels = torch.randn(batch, 3, size, size, device=device)

        def encode(pixels: torch.Tensor = pixels) -> object:
            return backbone.encode_image(pixels, specs)

        try:
            with torch.no_grad():
                taken = timed(encode, device, arguments.repeats, UNCOUNTED)
                with FlopCounterMode(display=False) as counter:
                    encode()
        except torch.OutOfMemoryError:
            print(f"{arithmetic}: a batch of {batch} does not fit")
            break
        rate = counter.get_total_flops() / taken
        rows.append([arithmetic, batch, 1e3 * taken / batch, rate / 1e9, limit / 1e9, rate / limit])
    return rows


def main() -> None:
    parser = parser_of(__doc__)
    add_arguments(parser)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    on_gpu = arguments.device.startswith("cuda")
    rows = []
    for arithmetic in ARITHMETIC if on_gpu else ("fp32", "bf16"):
        with single_precision(arithmetic == "tf32"):
            rows += measured(arguments, arithmetic)
    result = result_of(__file__, arguments)
    result.table(
        f"The visual forward of {arguments.backbone or 'the width-128 tower'} at 518 px",
        ["arithmetic", "batch", "ms an image", "GFLOP/s", "matrix product", "share"],
        rows,
        ".3g",
    )
    result.write()


if __name__ == "__main__":
    main()
