import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from zsad.bench.cli.data import app
from zsad.bench.cli.options import dataset_options
from zsad.bench.data.contact_sheet import TILE, choose, draw_tile
from zsad.bench.errors import DataError, UsageError
from zsad.bench.registry import load_dataset


@pytest.fixture
def kvasir(tmp_path):
    for shade, stem in enumerate(("a", "b", "c"), 90):
        for part, value in (("images", shade), ("masks", 0)):
            path = tmp_path / "data" / "Kvasir" / part / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((40, 60, 3), value, dtype=np.uint8)
            if part == "masks":
                pixels[10:20, 10:20] = 255
            Image.fromarray(pixels).save(path)
    return tmp_path / "data"


def invoke(*arguments, env=None):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_check_prints_a_table_and_fails_on_wrong_counts(kvasir):
    result = invoke("check", "kvasir", "--data-root", kvasir, "--open-files")
    assert result.exit_code == 1
    assert "incomplete" in result.stdout
    assert "3/1000" in result.stdout
    assert "opened 3 samples" in result.stdout


def test_check_json_says_the_same(kvasir):
    result = invoke("check", "kvasir", "--json", env={"ZSAD_DATA": str(kvasir)})
    (entry,) = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (entry["name"], entry["status"], entry["layout"]) == ("kvasir", "incomplete", "pairs")
    assert entry["categories"][0]["found"]["test_anomalous"] == 3
    assert entry["categories"][0]["expected"]["test_anomalous"] == 1000


def test_check_of_own_images_succeeds(kvasir):
    own = kvasir.parent / "own"
    (kvasir / "Kvasir" / "images").rename(own.with_name("moved"))
    for part in ("normal", "anomalous"):
        (own / part).mkdir(parents=True)
        (own.with_name("moved") / ("a.png" if part == "normal" else "b.png")).rename(
            own / part / "x.png"
        )
    assert invoke("check", "folder", "--data-root", own, "--open-files").exit_code == 0


def test_sources_state_terms_and_tree_of_all_nineteen():
    facts = json.loads(invoke("sources", "--json").stdout)
    assert len(facts) == 19
    assert all(f["licence"] and f["page"] and f["tree"] for f in facts)
    text = invoke("sources", "mvtec-ad").stdout
    assert "CC BY-NC-SA 4.0" in text
    assert "ground_truth/<defect>/000_mask.png" in text


def test_show_writes_a_sheet_with_red_outlines(kvasir, tmp_path):
    out = tmp_path / "sheets" / "k.png"
    result = invoke("show", "kvasir", "--data-root", kvasir, "--out", out, "--columns", 2)
    assert "3 of 3" in result.stdout
    sheet = np.asarray(Image.open(out)).astype(int)
    assert sheet.shape[1] > 2 * TILE
    red = (sheet[..., 0] > 200) & (sheet[..., 1] < 80)
    assert red.sum() > 300


def test_show_without_samples_says_so(kvasir, tmp_path):
    with pytest.raises(DataError, match="no train image to show"):
        invoke("show", "kvasir", "--data-root", kvasir, "--split", "train")
    with pytest.raises(UsageError, match="'train' or 'test'"):
        invoke("show", "kvasir", "--data-root", kvasir, "--split", "val")


def test_meta_is_written_once_and_replaced_on_demand(kvasir):
    assert "0 train and 3 test" in invoke("meta", "kvasir", "--data-root", kvasir).stdout
    path = kvasir / "Kvasir" / "meta.json"
    assert len(json.loads(path.read_text())["test"]["colon"]) == 3
    with pytest.raises(UsageError, match="--force"):
        invoke("meta", "kvasir", "--data-root", kvasir)
    assert invoke("meta", "kvasir", "--data-root", kvasir, "--force").exit_code == 0
    read = load_dataset("kvasir", kvasir, layout="meta")
    assert len(read.samples()) == 3


def test_meta_says_what_the_released_loaders_cannot_take(tmp_path, trees):
    root = tmp_path / "CVC-ClinicDB"
    trees.clinicdb(root)
    write = ("meta", "cvc-clinicdb", "--data-root", tmp_path, "--force")
    assert "convert with --png" in invoke(*write).stdout
    assert "--png" not in invoke(*write, "--png", "converted").stdout
    listed = json.loads((root / "meta.json").read_text())["test"]["colon"]
    assert all((root / row["img_path"]).suffix == ".png" for row in listed)
    trees.headct(tmp_path / "HeadCT")
    with pytest.raises(UsageError, match="anomalyclip has no class key for HeadCT"):
        invoke("meta", "headct", "--data-root", tmp_path, "--code", "anomalyclip")
    assert not (tmp_path / "HeadCT" / "meta.json").exists()
    trees.own_categories(tmp_path / "doors")
    told = invoke("meta", "folder", "--data-root", tmp_path / "doors").stdout
    assert "generate_class_info there: left_door, right_door" in told


def test_options_are_parsed_as_json_or_text():
    pairs = ["mask_threshold=127", "Kvasir.missing=skip", "class-name=a.b c"]
    assert dataset_options(pairs, ["kvasir"]) == {
        "kvasir": {"mask_threshold": 127, "missing": "skip", "class_name": "a.b c"}
    }


def test_of_several_datasets_the_prefix_says_which():
    several = ["mvtec-ad", "sdd"]
    assert dataset_options(["mvtec-ad.missing=skip"], several) == {
        "mvtec_ad": {"missing": "skip"},
        "sdd": {},
    }
    with pytest.raises(UsageError, match=r"say which is meant: DATASET.missing=skip"):
        dataset_options(["missing=skip"], several)


def test_a_dataset_that_is_only_learned_from_takes_options_with_its_prefix():
    pairs = ["missing=skip", "mvtec-ad.categories=bottle"]
    assert dataset_options(pairs, ["sdd"], ["mvtec_ad"]) == {
        "sdd": {"missing": "skip"},
        "mvtec_ad": {"categories": "bottle"},
    }


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("mask_threshold", r"takes \[DATASET.\]NAME=VALUE"),
        ("=3", r"takes \[DATASET.\]NAME=VALUE"),
        ("visa.missing=skip", "visa is not among the named datasets"),
        ("vsia.missing=skip", "did you mean visa"),
        ("mising=skip", "did you mean missing"),
    ],
)
def test_options_of_nothing_are_refused(pair, message):
    with pytest.raises(UsageError, match=message):
        dataset_options([pair], ["kvasir"])


def test_check_counts_only_the_chosen_categories(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    chosen = ("--dataset-option", "categories=bottle")
    result = invoke("check", "mvtec-ad", "--data-root", tmp_path, *chosen, "--json")
    (entry,) = json.loads(result.stdout)
    assert [part["category"] for part in entry["categories"]] == ["bottle"]
    assert len(entry["problems"]) == 1
    with pytest.raises(UsageError, match="unknown category of MVTecAD 'botle': did you mean"):
        invoke("check", "mvtec-ad", "--data-root", tmp_path, "--dataset-option", "categories=botle")


def test_check_of_all_in_an_empty_root_is_no_success(tmp_path):
    result = invoke("check", "all", "--data-root", tmp_path)
    assert result.exit_code == 1
    assert f"nothing below {tmp_path}" in result.stderr


def test_module_imports_nothing_heavy():
    code = (
        "import sys, zsad.bench.cli.data;"
        "print([m for m in ('torch','pandas','matplotlib','numpy','PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_few_tiles_still_show_many_kinds(kvasir):
    samples = load_dataset("kvasir", kvasir).samples()
    assert choose(samples, 2) == [samples[0], samples[1]]
    assert choose(samples, 99) == samples


def test_thin_defects_keep_an_outline():
    image = Image.new("RGB", (2000, 1000))
    mask = np.zeros((1000, 2000), dtype=bool)
    mask[500, 900] = True
    tile = draw_tile(image, mask)
    assert tile.size == (TILE, TILE // 2)
    assert (np.asarray(tile)[..., 0] > 200).sum() >= 8
