"""Results as Hugging Face's metadata: a model card for each method, and results of benchmarks.

A card's `model-index` takes any dataset. The newer `.eval_results/*.yaml` names datasets of the Hub
that are registered as benchmarks, so that only those are written of which the user says the name.
Both are written by huggingface_hub, which holds them to their schema. Sources:
https://github.com/huggingface/hub-docs/blob/main/modelcard.md and
https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import huggingface_hub
import yaml
from huggingface_hub import EvalResult, ModelCardData

from ..errors import UsageError
from ..files import file_name, write_text
from ..metric_table import Metric
from ..names import display_name
from .results import Result, home_page

TASKS = {"image": "image-classification", "pixel": "image-segmentation"}
METRIC_IDS = {"AUROC": "roc_auc", "AP": "average_precision", "F1-max": "f1"}
DECIMALS = 6


def write_cards(
    results: Sequence[Result], out: Path, hub_names: Mapping[str, str], source_url: str = ""
) -> list[Path]:
    """Write OUT/<method>/README.md with a `model-index`, and .eval_results/<dataset>.yaml.

    Args:
        results: in the order of their methods.
        out: a folder.
        hub_names: registry name of a dataset -> its name on the Hub ("owner/name").
        source_url: where the results can be looked up.

    Returns:
        The files that were written.

    Raises:
        UsageError: a dataset's name on the Hub is not of the form OWNER/NAME, or the installed
            huggingface_hub does not know `.eval_results`.
        FileError: a file cannot be written.
    """
    _refuse_bad_names(hub_names)
    written = []
    for key, group in groupby(results, key=lambda result: result.method_key):
        own = list(group)
        card = out / key / "README.md"
        write_text(card, _card(own, hub_names, source_url))
        written.append(card)
        for result in own:
            name = hub_names.get(result.records[0].cell.dataset)
            if name is not None:
                path = card.parent / ".eval_results" / f"{file_name(result.dataset.name)}.yaml"
                write_text(path, _benchmark_results(result, name, source_url))
                written.append(path)
    return written


def _refuse_bad_names(hub_names: Mapping[str, str]) -> None:
    for dataset, name in hub_names.items():
        if name.count("/") != 1 or not all(name.split("/")):
            raise UsageError(
                f"--hub-dataset {display_name(dataset)}={name}: a dataset of the Hub is named "
                "OWNER/NAME"
            )
    if hub_names and not hasattr(huggingface_hub, "EvalResultEntry"):
        raise UsageError(
            f"huggingface_hub {huggingface_hub.__version__} does not write .eval_results: "
            "pip install 'huggingface_hub>=1.4', or leave --hub-dataset out"
        )


def _card(results: Sequence[Result], hub_names: Mapping[str, str], source_url: str) -> str:
    """A model card: metadata, and what the numbers are of."""
    method, backbones = results[0].method, dict.fromkeys(r.backbone for r in results if r.backbone)
    data = ModelCardData(
        model_name=method.label,
        library_name="zsad",
        tags=["anomaly-detection", str(method.track)],
        eval_results=[e for r in results for e in _entries(r, hub_names, source_url)],
    )
    lines = [
        f"# {method.label}",
        "",
        f"Variant `{display_name(method.variant)}`, backbone {', '.join(backbones) or 'unknown'}. "
        f"{method.track.meaning}",
        "",
        "Metrics are fractions: means over the categories of a dataset, and over seeds.",
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"


def _entries(result: Result, hub_names: Mapping[str, str], source_url: str) -> Iterator[EvalResult]:
    cell = result.records[0].cell
    for metric, value in result.values:
        track = str(result.method.track).capitalize()
        task = "classification" if metric.level == "image" else "segmentation"
        yield EvalResult(
            task_type=TASKS[metric.level],
            task_name=f"{track} anomaly {task}",
            dataset_type=hub_names.get(cell.dataset, display_name(cell.dataset)),
            dataset_name=result.dataset.title,
            dataset_split="test",
            metric_type=METRIC_IDS.get(metric.label, metric.name),
            metric_name=metric.title,
            metric_value=round(value.value or 0.0, DECIMALS),
            metric_args=_arguments(result, metric, value.spread),
            source_name="zsad records" if source_url else None,
            source_url=source_url or home_page(cell.dataset) or None,
        )


def _arguments(result: Result, metric: Metric, spread: float | None) -> dict[str, object]:
    """How the number came about, beside its name."""
    found: dict[str, object] = {"definition": metric.definition, "seeds": result.seeds}
    return found if spread is None else {**found, "sd_over_seeds": round(spread, DECIMALS)}


def _benchmark_results(result: Result, name: str, source_url: str) -> str:
    """The content of a file of .eval_results: a value for each metric."""
    notes = [f"{result.method.track}, backbone {result.backbone}, seeds"]
    notes += [", ".join(map(str, result.seeds))]
    started = str(result.records[0].provenance.get("started") or "")
    entries = [
        huggingface_hub.EvalResultEntry(
            dataset_id=name,
            task_id=metric.name,
            value=round(value.value or 0.0, DECIMALS),
            date=started or None,
            source_url=source_url or None,
            source_name="zsad records" if source_url else None,
            notes=" ".join(notes),
        )
        for metric, value in result.values
    ]
    rows = huggingface_hub.eval_result_entries_to_yaml(entries)
    return str(yaml.safe_dump(rows, sort_keys=False, allow_unicode=True))
