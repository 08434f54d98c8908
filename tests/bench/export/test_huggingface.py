"""Model cards and benchmark results that huggingface_hub itself reads."""

from statistics import fmean

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from zsad.bench.analysis.matrix import arrange
from zsad.bench.errors import UsageError
from zsad.bench.export.huggingface import write_cards
from zsad.bench.export.results import results_of


@pytest.fixture
def results(exported):
    return results_of(arrange(exported))


def test_a_card_holds_the_means_over_categories_and_seeds(results, exported, tmp_path):
    written = write_cards(results, tmp_path, {})
    assert [path.parent.name for path in written] == ["clip--official", "faprompt--official"]
    card = ModelCard.load(written[1])
    assert card.data.model_name == "FAPrompt"
    found = {(r.dataset_name, r.metric_name): r for r in card.data.eval_results}
    own = [r for r in exported if r.cell.method == "faprompt" and r.cell.dataset == "visa"]
    assert len(own) == 2
    mean = fmean(fmean(c.metrics["pixel_auroc"] for c in r.categories) for r in own)
    result = found["VisA", "pixel AUROC"]
    assert result.metric_value == pytest.approx(mean, abs=1e-6)
    assert result.metric_args["seeds"] == [1, 2]
    assert result.metric_args["sd_over_seeds"] > 0
    assert result.source_url == "https://github.com/amazon-science/spot-diff"
    assert ("ELPV", "pixel AUROC") not in found  # it has no masks
    assert {name for name, _ in found} == {"VisA", "ELPV"}


def test_results_of_a_benchmark_are_written_where_its_name_is_given(results, tmp_path):
    written = write_cards(results, tmp_path, {"elpv": "someone/elpv"}, "https://example.org/board")
    (path,) = [path for path in written if path.suffix == ".yaml"]
    assert path.relative_to(tmp_path).parts == ("faprompt--official", ".eval_results", "elpv.yaml")
    entries = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert {entry.dataset_id for entry in entries} == {"someone/elpv"}
    tasks = [entry.task_id for entry in entries]
    assert tasks[:3] == ["image_auroc", "image_ap", "image_f1max"]
    assert all(task.startswith("image_") for task in tasks)
    (result,) = [r for r in results if r.dataset.name == "elpv"]
    assert entries[0].value == pytest.approx(result.values[0][1].value, abs=1e-6)
    assert entries[0].date == "2026-03-02T10:00:00+00:00"
    assert entries[0].source_url == "https://example.org/board"
    assert "seeds 1, 2" in entries[0].notes
    card = ModelCard.load(path.parents[1] / "README.md")
    assert {r.dataset_type for r in card.data.eval_results} == {"visa", "someone/elpv"}


def test_a_name_that_the_hub_cannot_have_is_refused(results, tmp_path):
    with pytest.raises(UsageError, match="OWNER/NAME"):
        write_cards(results, tmp_path, {"elpv": "elpv"})
