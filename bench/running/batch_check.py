"""Does the answer for an image depend on the other images of its batch?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..backbone import Backbone
from ..conformance import TOLERANCE
from ..errors import ContractError, is_out_of_memory
from ..method import Method, Prediction, Query
from ..names import display_name
from .prepared_method import PreparedMethod

# What rounding may change of scores and maps, relative to the greatest of them or to 1, when the
# same images are batched otherwise. Measured for all variants of the built-in methods on the
# built-in backbone (CPU; batches of 2, 3 and 8 images in halves), the most was 7e-7 in fp32, 1.3e-4
# in fp16 and 7e-4 in bf16; about 14 times that is allowed. A GPU picks its kernels by the batch's
# size: there it is at least what the conformance kit allows between CPU and GPU (not measured);
# tf32 has the mantissa of fp16.
TOLERANCES: Mapping[str, float] = {
    **dict.fromkeys(("fp64", "fp32"), TOLERANCE),
    **dict.fromkeys(("fp16", "tf32"), 2e-3),
    "bf16": 1e-2,
}
CUDA_TOLERANCE = 1e-3


def examine(prepared: PreparedMethod, query: Query, answer: Prediction) -> None:
    """Score a method's first batch again, in two halves; one image waits for the next batch.

    The features are sliced, not computed again: the towers treat each image by itself, so that
    what differs is due to the method, and no forward is paid for.

    Raises:
        ContractError: scores or maps differ by more than rounding.
    """
    if prepared.single is not None:
        first, earlier = prepared.single
        joined = Query.joined([first, query])
        try:
            _refuse_difference(prepared.ready, [joined], Prediction.joined([earlier, answer]))
        except Exception as error:  # memory that holds one image alone leaves no batches to compare
            if len(joined) > 2 or not is_out_of_memory(error):
                raise
    elif len(query) == 1:
        prepared.single = (query, answer)
        return
    else:
        half = len(query) // 2
        _refuse_difference(prepared.ready, [query[:half], query[half:]], answer)
    prepared.single = None
    prepared.examined = True


def _refuse_difference(method: Method, queries: Sequence[Query], given: Prediction) -> None:
    """Compare an answer that was given with that to the same images batched otherwise."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        again = [method.predict(query).checked(len(query), method.name) for query in queries]
    tolerance, images = _tolerance(method.backbone), sum(map(len, queries))
    found = []
    repeated = Prediction.joined(again)
    for part in ("scores", "maps", "parts"):
        one, other = getattr(given, part), getattr(repeated, part)
        if one is None or other is None:
            continue
        difference = float((one - other).abs().max())
        if difference > tolerance * max(1.0, float(one.abs().max())):
            found.append(f"{part} differ by up to {difference:.2g}")
    if found:
        raise ContractError(
            f"method '{display_name(method.name)}' is transductive: its answer for an image "
            f"depends on the other images of the batch ({' and '.join(found)} when the first "
            f"{images} images are batched otherwise), so its numbers would change with "
            "--batch-size: let predict treat each image by itself, or say track = "
            "Track.TRANSDUCTIVE and observe the category before"
        )


def _tolerance(backbone: Backbone) -> float:
    """What rounding may change when images are batched otherwise."""
    usual = TOLERANCES[backbone.precision]
    return max(usual, CUDA_TOLERANCE) if backbone.device.type == "cuda" else usual
