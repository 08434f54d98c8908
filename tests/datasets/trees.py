"""Every documented dataset tree, built from tiny images."""

import csv
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 20)


def paint(path: Path, size=SIZE, mode="RGB", kind=None) -> Path:
    """A noisy image; `kind` is the file format where the suffix lies about it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32("/".join(path.parts[-2:]).encode())
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    image.save(path, format=kind)
    return path


def mask(path: Path, size=SIZE, box=(4, 5, 12, 15), value=255, kind=None) -> Path:
    """A grey mask with one rectangle; box None leaves it empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    if box is not None:
        left, top, right, bottom = box
        pixels[top:bottom, left:right] = value
    Image.fromarray(pixels).save(path, format=kind)
    return path


def odd_tiff(path: Path, size=SIZE) -> Path:
    """RGB in a TIFF that calls itself "black is zero", as CVC-ClinicDB's are."""
    paint(path, size, kind="TIFF")
    data = path.read_bytes()
    photometric = bytes.fromhex("0601 0300 01000000")
    assert data.count(photometric + b"\x02\x00") == 1
    path.write_bytes(data.replace(photometric + b"\x02\x00", photometric + b"\x01\x00"))
    return path


@dataclass(frozen=True)
class TreeCase:
    """A tree and what its loader should find in it."""

    dataset: str
    layout: str
    folder: str
    build: Callable[[Path], None]
    normal: int
    anomalous: int
    train: int = 0
    categories: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.dataset}-{self.folder.replace('/', '-').replace(' ', '_')}-{self.layout}"


def category_tree(
    root: Path,
    category: str,
    kinds=("broken",),
    normal="good",
    image=".png",
    drawn="_mask.png",
    masks=True,
    train=2,
) -> None:
    for number in range(train):
        paint(root / category / "train" / normal / f"{number:03d}{image}")
    for number in range(2):
        paint(root / category / "test" / normal / f"{number:03d}{image}")
        for kind in kinds:
            paint(root / category / "test" / kind / f"{number:03d}{image}")
            if masks:
                mask(root / category / "ground_truth" / kind / f"{number:03d}{drawn}")


def mvtec(root: Path) -> None:
    (root / "readme.txt").parent.mkdir(parents=True, exist_ok=True)
    (root / "readme.txt").write_text("terms")
    category_tree(root, "bottle", ("broken_large", "contamination"))
    category_tree(root, "metal_nut", ("scratch",))
    (root / "bottle" / "license.txt").write_text("terms")
    (root / "bottle" / "test" / "good" / "Thumbs.db").write_bytes(b"x")
    (root / "bottle" / "test" / "good" / "._000.png").write_bytes(b"x")


def visa(root: Path) -> None:
    rows = []
    for category in ("candle", "pcb1"):
        for number in range(4):
            name = f"{category}/Data/Images/Normal/{number:04d}.JPG"
            paint(root / name, kind="JPEG")
            rows.append((category, "train" if number < 2 else "test", "normal", name, ""))
        for number in range(3):
            name = f"{category}/Data/Images/Anomaly/{number:03d}.JPG"
            drawn = f"{category}/Data/Masks/Anomaly/{number:03d}.png"
            paint(root / name, kind="JPEG")
            mask(root / drawn, value=number + 1)
            rows.append((category, "test", "anomaly", name, drawn))
    table = root / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])


def visa_pytorch(root: Path) -> None:
    category_tree(root / "1cls", "candle", ("bad",), image=".JPG", drawn=".png")
    category_tree(root / "1cls", "pipe_fryum", ("bad",), image=".JPG", drawn=".png")


def dagm_class(place: Path, test: dict[str, bool], train: dict[str, bool]) -> None:
    for part, flags in (("Test", test), ("Train", train)):
        lines = ["1"]
        for stem, bad in flags.items():
            paint(place / part / f"{stem}.PNG", mode="L")
            drawn = f"{stem}_label.PNG"
            if bad:
                mask(place / part / "Label" / drawn)
            lines.append(f"{stem}\t{int(bad)}\t{stem}.PNG\t0\t{drawn if bad else '0'}\t")
        label = place / part / "Label" / "Labels.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_bytes("\r\n".join(lines).encode())


def dagm(root: Path) -> None:
    for name in ("Class1", "Class10"):
        dagm_class(
            root / name,
            {"0001": False, "0002": True, "0003": False},
            {"0004": False, "0005": True},
        )
    (root / "Class1" / "Test" / "Thumbs.db").write_bytes(b"x")


def dagm_without_labels(root: Path) -> None:
    dagm(root)
    for path in root.rglob("Labels.txt"):
        path.unlink()


def dtd(root: Path) -> None:
    category_tree(root, "Woven_001", ("bad",))
    category_tree(root, "Mesh_114", ("bad",))


def btad(root: Path) -> None:
    category_tree(root, "01", ("ko",), normal="ok", image=".bmp", drawn=".png")
    category_tree(root, "02", ("ko",), normal="ok", image=".png", drawn=".png")
    category_tree(root, "03", ("ko",), normal="ok", image=".bmp", drawn=".bmp")
    (root / "01" / "ground_truth" / "ok").mkdir()


def mpdd(root: Path) -> None:
    category_tree(root, "bracket_black", ("hole", "scratches"))
    category_tree(root, "tubes", ("anomalous",))


STRIP = (600, 8)


def aitex(root: Path) -> None:
    for fabric, mode in (("2306881-210020u", "L"), ("2306894-210033u", "LA")):
        for number in (1, 2):
            paint(root / "NODefect_images" / fabric / f"{number:04d}_000_05.png", STRIP, mode)
    defects, drawn = root / "Defect_images", root / "Mask_images"
    for stem in ("0001_002_00", "0044_019_04", "0100_025_08", "0106_010_03"):
        paint(defects / f"{stem}.png", STRIP, "L")
    mask(drawn / "0001_002_00_mask.png", STRIP, (250, 2, 262, 5))
    mask(drawn / "0044_019_04_mask1.png", STRIP, (10, 2, 20, 5))
    mask(drawn / "0044_019_04_mask2.png", STRIP, (530, 2, 540, 5))
    mask(drawn / "0106_010_03_mask.png", STRIP, None)


def aitex_nested(root: Path) -> None:
    aitex(root)
    for name in ("Defect_images", "Mask_images", "NODefect_images"):
        outer = root / name
        outer.rename(root / "moved")
        outer.mkdir()
        (root / "moved").rename(outer / name)


def aitex_converted(root: Path) -> None:
    category_tree(root, "AITEX", ("Broken_end", "Nep"))


COMMUTATOR = (20, 31)


def sdd(root: Path) -> None:
    boxes = {
        ("kos01", 1): (3, 2, 8, 6),
        ("kos02", 0): (3, 8, 8, 13),  # straddles the first cut, at 10
        ("kos10", 3): (3, 20, 8, 31),
    }
    for item in ("kos01", "kos02", "kos10"):
        for part in range(4):
            paint(root / item / f"Part{part}.jpg", COMMUTATOR, "L")
            mask(root / item / f"Part{part}_label.bmp", COMMUTATOR, boxes.get((item, part)))


def sdd_converted(root: Path) -> None:
    category_tree(root, "electrical commutators", ("defect",))


def sdd_flat(root: Path) -> None:
    category_tree(root, ".", ("defect",))


def ksdd2(root: Path) -> None:
    for split, first in (("train", 10000), ("test", 20000)):
        for number in range(first, first + 3):
            paint(root / split / f"{number}.png", COMMUTATOR)
            box = (3, 2, 8, 6) if number % 10 == 1 else None
            mask(root / split / f"{number}_GT.png", COMMUTATOR, box)


def mvtec_ad_2(root: Path) -> None:
    for category in ("can", "fruit_jelly"):
        place = root / category
        for stem in ("000_regular", "000_overexposed"):
            paint(place / "train" / "good" / f"{stem}.png")
            paint(place / "validation" / "good" / f"{stem}.png")
            paint(place / "test_public" / "good" / f"{stem}.png")
            paint(place / "test_public" / "bad" / f"{stem}.png", mode="L")
            mask(place / "test_public" / "ground_truth" / "bad" / f"{stem}_mask.png")
        paint(place / "test_private" / "000_regular.png")
        paint(place / "test_private_mixed" / "000_mixed.png")
    (root / "readme.txt").write_text("terms")


def mvtec_loco(root: Path) -> None:
    for category in ("breakfast_box", "screw_bag"):
        place = root / category
        for number in range(2):
            paint(place / "train" / "good" / f"{number:03d}.png")
            paint(place / "validation" / "good" / f"{number:03d}.png")
            paint(place / "test" / "good" / f"{number:03d}.png")
            for kind, value in (("logical_anomalies", 241), ("structural_anomalies", 255)):
                paint(place / "test" / kind / f"{number:03d}.png")
                truth = place / "ground_truth" / kind / f"{number:03d}"
                for region in range(number + 1):
                    box = (4 * region, 2, 4 * region + 3, 6)
                    mask(truth / f"{region:03d}.png", box=box, value=value)
        (place / "defects_config.json").write_text("[]")


def real_iad_rows(root: Path, category: str) -> dict[str, list[dict]]:
    """Images of a category, and the rows of its split file by split."""
    rows: dict[str, list[dict]] = {"train": [], "test": []}
    for number, kind, split in (
        (1, "OK", "train"),
        (2, "OK", "test"),
        (3, "NG/HS", "test"),
    ):
        for view in ("C1", "C2"):
            stem = f"{kind}/S{number:04d}/{category}_{number:04d}_{view}_20231023"
            paint(root / category / f"{stem}.jpg")
            bad = kind != "OK" and view == "C1"  # the other side of the item has no defect
            if bad:
                mask(root / category / f"{stem}.png")
            rows[split].append(
                {
                    "category": category,
                    "anomaly_class": "HS" if bad else "OK",
                    "image_path": f"{stem}.jpg",
                    "mask_path": f"{stem}.png" if bad else None,
                }
            )
    return rows


def real_iad(root: Path, jsons: str = "realiad_jsons") -> None:
    for category in ("audiojack", "usb"):
        rows = real_iad_rows(root / "realiad_1024", category)
        single = {
            split: [r for r in part if "_C1_" in r["image_path"]] for split, part in rows.items()
        }
        for folder, content in ((jsons, rows), (f"{jsons}_sv", single)):
            meta = {"prefix": f"{category}/", "normal_class": "OK", "pre_transform": []}
            path = root / folder / f"{category}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"meta": meta, **content}))


def real_iad_nested(root: Path) -> None:
    real_iad(root, "realiad_jsons/realiad_jsons")


def bmad(inside: str, train: str = "train/good"):
    """One of BMAD's trees; `inside` says where the files of a label lie, with or without masks."""

    def build(root: Path) -> None:
        for number in range(2):
            paint(root / train / f"{number}.png", mode="L")
            for split in ("test", "valid"):
                for kind in ("good", "Ungood"):
                    paint(root / split / inside.format(kind, "img") / f"{number}.png", mode="L")
                if "{1}" in inside:
                    mask(root / split / inside.format("Ungood", "label") / f"{number}.png")

    return build


def goodsad(root: Path) -> None:
    category_tree(root, "drink_can", ("opened", "deformed"), image=".jpg", drawn=".png")
    category_tree(root, "food_box", ("opened",), image=".jpg", drawn=".png")


def threecad(root: Path) -> None:
    category_tree(root, "Aluminum_Pc", ("scratch", "dent"), drawn=".png")
    category_tree(root, "Iron_Stator", ("crack",), drawn=".png")


def elpv(root: Path) -> None:
    lines = []
    for number in range(1, 17):
        paint(root / "images" / f"cell{number:04d}.png", mode="L")
        probability = ("0.0", "1.0", "0.3333333333333333", "0.0")[number % 4]
        kind = "mono" if number < 9 else "poly"
        lines.append(f"images/cell{number:04d}.png  {probability:<19} {kind}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def elpv_nested(root: Path) -> None:
    elpv(root / "src" / "elpv_dataset" / "data")


def elpv_converted(root: Path) -> None:
    category_tree(root, "elpv", ("mono", "poly"), masks=False)


def brainmri(root: Path) -> None:
    for parent in (root, root / "brain_tumor_dataset"):
        for name in ("1 no.jpeg", "No11.jpg", "N1.JPG"):
            paint(parent / "no" / name, kind="JPEG")
        paint(parent / "no" / "no 1.jpg", mode="RGBA", kind="PNG")
        paint(parent / "yes" / "Y1.jpg", mode="L")
        paint(parent / "yes" / "Y100.JPG", mode="P", kind="PNG")


def brain_tumor_dataset(root: Path) -> None:
    paint(root / "brain_tumor_dataset" / "no" / "1 no.jpeg")
    paint(root / "brain_tumor_dataset" / "yes" / "Y1.jpg")


def headct(root: Path) -> None:
    rows = ["id, hemorrhage"]
    for number in range(5):
        mode = "RGBA" if number == 3 else "RGB"
        paint(root / "head_ct" / "head_ct" / f"{number:03d}.png", mode=mode)
        rows.append(f"{number},{int(number in (1, 4))}")
    (root / "labels.csv").write_text("\n".join(rows))


def headct_converted(root: Path) -> None:
    category_tree(root, "headct", ("defect",), masks=False, train=0)


def br35h(root: Path) -> None:
    for number in range(3):
        paint(root / "yes" / f"y{number}.jpg")
    paint(root / "no" / "no0.jpg")
    paint(root / "no" / "No12.jpg", mode="RGBA", kind="PNG")
    paint(root / "pred" / "pred0.jpg")
    paint(root / "Br35H-Mask-RCNN" / "TRAIN" / "y0.jpg")


def lag(root: Path) -> None:
    for folder, numbers in (("non_glaucoma", range(8)), ("suspicious_glaucoma", range(8, 13))):
        for number in numbers:
            paint(root / folder / "image" / f"{number:04d}.jpg")
            paint(root / folder / "attention_map" / f"{number:04d}.jpg", (8, 8), "L")
            label = root / folder / "label" / f"{number:04d}.txt"
            label.parent.mkdir(exist_ok=True)
            label.write_text(str(int(folder.startswith("s"))))


def colondb(root: Path) -> None:
    for number in (1, 2, 77, 380):
        paint(root / f"{number}.{'tif' if number == 77 else 'tiff'}", kind="TIFF")
        mask(root / f"p{number}.tiff", kind="TIFF")
        mask(root / f"cp{number}.tiff", kind="TIFF")
    (root / "README.txt").write_text("frames")


def pairs(root: Path, image=".png", drawn=".png", stems=("1", "10", "2")) -> None:
    for stem in stems:
        paint(root / "images" / f"{stem}{image}")
        mask(root / "masks" / f"{stem}{drawn}")


def clinicdb(root: Path) -> None:
    for stem in ("1", "10", "612"):
        odd_tiff(root / "Original" / f"{stem}.tif")
        mask(root / "Ground Truth" / f"{stem}.tif")
    (root / "README.txt").write_text("terms")


def clinicdb_joined(root: Path) -> None:
    clinicdb(root)
    (root / "Ground Truth").rename(root / "GroundTruth")


def clinicdb_kaggle(root: Path) -> None:
    for level, suffix in (("PNG", ".png"), ("TIF", ".tif")):
        for stem in ("1", "2"):
            paint(root / level / "Original" / f"{stem}{suffix}")
            mask(root / level / "Ground Truth" / f"{stem}{suffix}")


def kvasir(root: Path) -> None:
    pairs(root, ".jpg", ".jpg", ("cju0qk", "cju14p"))
    (root / "kavsir_bboxes.json").write_text("{}")


def endo(root: Path) -> None:
    pairs(root, ".jpg", ".png", ("003ab8b5-cf6d", "1a2b"))


def isic(root: Path) -> None:
    for part, count in (("Test", 3), ("Training", 2)):
        for number in range(count):
            stem = f"ISIC_{number:07d}"
            paint(root / f"ISBI2016_ISIC_Part1_{part}_Data" / f"{stem}.jpg")
            drawn = root / f"ISBI2016_ISIC_Part1_{part}_GroundTruth"
            mask(drawn / f"{stem}_Segmentation.png")


def isic_rearranged(root: Path) -> None:
    for number in range(3):
        stem = f"ISIC_{number:07d}"
        paint(root / "skin" / "test" / "bad" / f"{stem}.jpg")
        mask(root / "skin" / "ISBI2016_ISIC_Part1_Test_GroundTruth" / f"{stem}_Segmentation.png")


def tn3k(root: Path) -> None:
    for part, count in (("test", 3), ("trainval", 2)):
        for number in range(count):
            paint(root / "tn3k" / f"{part}-image" / f"{number:04d}.jpg")
            mask(root / "tn3k" / f"{part}-mask" / f"{number:04d}.jpg")
    pairs(root / "tg3k", ".jpg", ".jpg")


def converted(category: str):
    """The tree that AdaCLIP's scripts make of every set: one category folder, no normal images."""

    def build(root: Path) -> None:
        category_tree(root, category, ("defect",), image=".jpg", drawn=".png", train=0)
        shutil.rmtree(root / category / "test" / "good")
        (root / category / "train" / "good").mkdir(parents=True)
        (root / category / "test" / "good").mkdir()

    return build


def dagm_converted(root: Path) -> None:
    category_tree(root, "Class1", ("defect",), image=".PNG", drawn="_label.PNG")
    category_tree(root, "Class2", ("defect",), image=".PNG", drawn="_label.PNG")


def own_folders(root: Path) -> None:
    for number in range(3):
        paint(root / "normal" / "day one" / f"{number}.png")
    for number in range(2):
        paint(root / "anomalous" / "dent" / f"{number}.jpg")
        mask(root / "masks" / "dent" / f"{number}_mask.png")


def own_categories(root: Path) -> None:
    for category in ("left_door", "right_door"):
        paint(root / category / "good" / "0.png")
        paint(root / category / "bad" / "1.png")


def own_tree(root: Path) -> None:
    category_tree(root, "my_part", ("scratch",))


def with_meta(root: Path) -> None:
    """A tree that no layout knows, and the meta.json that describes it."""
    paint(root / "pictures" / "a.png")
    paint(root / "pictures" / "b.png")
    paint(root / "pictures" / "c.png")
    mask(root / "drawn" / "b.png")
    row = {"cls_name": "screw", "mask_path": "", "specie_name": "good", "anomaly": 0}
    rows = [
        {**row, "img_path": "pictures/a.png"},
        {
            **row,
            "img_path": "pictures\\b.png",
            "mask_path": "drawn/b.png",
            "specie_name": "dent",
            "anomaly": 1,
        },
    ]
    content = {"Train": {"screw": [{**row, "img_path": "pictures/c.png"}]}, "Test": {"screw": rows}}
    (root / "meta.json").write_text(json.dumps(content))


CASES = [
    TreeCase(
        "mvtec_ad", "tree", "mvtec_anomaly_detection", mvtec, 4, 6, 4, ("bottle", "metal_nut")
    ),
    TreeCase("mvtec_ad", "tree", "MVTec AD", own_tree, 2, 2, 2, ("my_part",)),
    TreeCase("mvtec_ad", "meta", "mvtec", with_meta, 1, 1, 1, ("screw",)),
    TreeCase("visa", "official", "VisA_20220922", visa, 4, 6, 4, ("candle", "pcb1")),
    TreeCase("visa", "tree", "VisA_pytorch", visa_pytorch, 4, 4, 4, ("candle", "pipe_fryum")),
    TreeCase("dagm", "official", "DAGM_KaggleUpload", dagm, 4, 2, 4, ("Class1", "Class10")),
    TreeCase("dagm", "official", "dagm", dagm_without_labels, 4, 2, 4, ("Class1", "Class10")),
    TreeCase("dtd_synthetic", "tree", "DTD-Synthetic", dtd, 4, 4, 4, ("Woven_001", "Mesh_114")),
    TreeCase("btad", "tree", "BTech_Dataset_transformed", btad, 6, 6, 6, ("01", "02", "03")),
    TreeCase("mpdd", "tree", "MPDD", mpdd, 4, 6, 4, ("bracket_black", "tubes")),
    TreeCase("aitex", "official", "AITEX", aitex, 3, 2, 9, ("AITEX",)),
    TreeCase("aitex", "official", "afid", aitex_nested, 3, 2, 9, ("AITEX",)),
    TreeCase("aitex", "tree", "AITEX_anomaly_detection", aitex_converted, 2, 4, 2, ("AITEX",)),
    TreeCase("sdd", "official", "KolektorSDD", sdd, 8, 4, 24, ("SDD",)),
    TreeCase("sdd", "tree", "SDD", sdd_converted, 2, 2, 2, ("SDD",)),
    TreeCase("sdd", "tree", "sdd_anomaly_detection", sdd_flat, 2, 2, 2, ("SDD",)),
    TreeCase("elpv", "official", "elpv", elpv, 2, 4, 6, ("elpv",)),
    TreeCase("elpv", "official", "elpv-dataset", elpv_nested, 2, 4, 6, ("elpv",)),
    TreeCase("elpv", "tree", "ELPV_anomaly_detection", elpv_converted, 2, 4, 2, ("elpv",)),
    TreeCase("brainmri", "folders", "BrainMRI", brainmri, 4, 2, 0, ("brain",)),
    TreeCase("brainmri", "folders", "archive", brain_tumor_dataset, 1, 1, 0, ("brain",)),
    TreeCase("headct", "official", "head-ct-hemorrhage", headct, 3, 2, 0, ("brain",)),
    TreeCase("headct", "tree", "HeadCT_anomaly_detection", headct_converted, 2, 2, 0, ("brain",)),
    TreeCase("br35h", "folders", "Br35H", br35h, 2, 3, 0, ("brain",)),
    TreeCase("br35h", "folders", "br35", br35h, 2, 3, 0, ("brain",)),
    TreeCase("lag", "official", "LAG_database_part_1", lag, 2, 5, 6, ("LAG",)),
    TreeCase("cvc_colondb", "official", "CVC-ColonDB", colondb, 0, 4, 0, ("colon",)),
    TreeCase("cvc_colondb", "pairs", "TestDataset/CVC-ColonDB", pairs, 0, 3, 0, ("colon",)),
    TreeCase("cvc_clinicdb", "official", "CVC-ClinicDB", clinicdb, 0, 3, 0, ("colon",)),
    TreeCase("cvc_clinicdb", "official", "CVC-ClinicDB", clinicdb_joined, 0, 3, 0, ("colon",)),
    TreeCase("cvc_clinicdb", "official", "ClinicDB", clinicdb_kaggle, 0, 2, 0, ("colon",)),
    TreeCase("cvc_clinicdb", "pairs", "TestDataset/CVC-ClinicDB", pairs, 0, 3, 0, ("colon",)),
    TreeCase("kvasir", "pairs", "Kvasir-SEG", kvasir, 0, 2, 0, ("colon",)),
    TreeCase("kvasir", "pairs", "Kvasir", pairs, 0, 3, 0, ("colon",)),
    TreeCase("endo", "pairs", "EndoTect_2020_Segmentation_Test_Dataset", endo, 0, 2, 0, ("colon",)),
    TreeCase("isic", "official", "ISIC", isic, 0, 3, 2, ("skin",)),
    TreeCase("isic", "official", "ISBI", isic_rearranged, 0, 3, 0, ("skin",)),
    TreeCase("tn3k", "official", "Thyroid Dataset", tn3k, 0, 3, 2, ("thyroid",)),
    TreeCase(
        "dagm", "tree", "DAGM_anomaly_detection", dagm_converted, 4, 4, 4, ("Class1", "Class2")
    ),
    TreeCase("cvc_colondb", "tree", "ColonDB", converted("ColonDB"), 0, 2, 0, ("colon",)),
    TreeCase("cvc_clinicdb", "tree", "CVC_ClinicDB", converted("ClinicDB"), 0, 2, 0, ("colon",)),
    TreeCase("kvasir", "tree", "kvasir_seg", converted("Kvasir"), 0, 2, 0, ("colon",)),
    TreeCase("endo", "tree", "Endo", converted("endo"), 0, 2, 0, ("colon",)),
    TreeCase("isic", "tree", "ISIC2016", converted("isic"), 0, 2, 0, ("skin",)),
    TreeCase("tn3k", "tree", "TN3K", converted("tn3k"), 0, 2, 0, ("thyroid",)),
    TreeCase("ksdd2", "official", "KolektorSDD2", ksdd2, 2, 1, 3, ("KSDD2",)),
    TreeCase("mvtec_ad_2", "official", "mvtec_ad_2", mvtec_ad_2, 4, 4, 4, ("can", "fruit_jelly")),
    TreeCase(
        "mvtec_loco",
        "official",
        "mvtec_loco_anomaly_detection",
        mvtec_loco,
        4,
        8,
        4,
        ("breakfast_box", "screw_bag"),
    ),
    TreeCase("real_iad", "official", "Real-IAD", real_iad, 6, 2, 4, ("audiojack", "usb")),
    TreeCase("real_iad", "official", "realiad", real_iad_nested, 6, 2, 4, ("audiojack", "usb")),
    TreeCase("bmad_brain", "official", "BraTS2021_slice", bmad("{0}/{1}"), 2, 2, 2, ("Brain",)),
    TreeCase(
        "bmad_brain", "official", "Brain_AD", bmad("{0}/{1}", "train/good/img"), 2, 2, 2, ("Brain",)
    ),
    TreeCase("bmad_liver", "official", "hist_DIY", bmad("{1}/{0}"), 2, 2, 2, ("Liver",)),
    TreeCase("bmad_resc", "official", "RESC", bmad("{0}/{1}"), 2, 2, 2, ("RESC",)),
    TreeCase("bmad_oct2017", "official", "OCT2017", bmad("{0}"), 2, 2, 2, ("OCT2017",)),
    TreeCase("bmad_chest", "official", "Chest-RSNA", bmad("{0}/img"), 2, 2, 2, ("Chest",)),
    TreeCase(
        "bmad_histopathology",
        "official",
        "camelyon16_256",
        bmad("{0}"),
        2,
        2,
        2,
        ("Histopathology",),
    ),
    TreeCase("goodsad", "tree", "GoodsAD", goodsad, 4, 6, 4, ("drink_can", "food_box")),
    TreeCase("threecad", "tree", "3CAD", threecad, 4, 6, 4, ("Aluminum_Pc", "Iron_Stator")),
    TreeCase("folder", "folders", "doors", own_folders, 3, 2, 0, ("doors",)),
    TreeCase("folder", "folders", "parts", own_categories, 2, 2, 0, ("left_door", "right_door")),
    TreeCase("folder", "tree", "more", own_tree, 2, 2, 2, ("my_part",)),
    TreeCase("folder", "meta", "listed", with_meta, 1, 1, 1, ("screw",)),
]
