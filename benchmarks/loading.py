"""Time reading against a plain PIL loop with the same transform, and indexing of many files.

    python benchmarks/loading.py                     # on generated images
    python benchmarks/loading.py --data-root DIR     # on the real samples below DIR

Both loops read an image as RGB, resize it to 518x518 (bicubic), and bring its mask to 518x518
(bilinear, > 0.5). The plain loop does no more; ours also turns by EXIF, checks sizes, refuses bombs
and counts the mask regions that vanish. The loops take turns on each image, and the best of
several rounds counts for each.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from _result import parser_of, result_of
from PIL import Image
from zsad.bench.errors import DataError
from zsad.bench.images import resize_mask
from zsad.bench.registry import load_dataset

SIZE = 518
REAL = ("mvtec_ad", "cvc_colondb", "cvc_clinicdb", "kvasir", "brainmri", "elpv")


def ours(dataset, sample):
    reading = dataset.read(sample)
    np.asarray(reading.image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    if reading.mask is not None:
        resize_mask(reading.mask, SIZE, dataset.mask_rule)


def plain(dataset, sample):
    image = Image.open(sample.image_path).convert("RGB")
    np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    if not dataset.has_masks:
        return
    if sample.mask_path is None:
        mask = Image.fromarray(np.zeros((image.height, image.width), dtype=np.uint8))
    else:
        drawn = np.array(Image.open(sample.mask_path).convert("L")) > 0
        mask = Image.fromarray(drawn.astype(np.uint8) * 255)
    _ = np.asarray(mask.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) > 127


def best_seconds(loops, dataset, samples, rounds):
    """Seconds of each loop over all samples: the best round of every single sample, summed."""
    best = np.full((len(loops), len(samples)), np.inf)
    for number in range(rounds):
        for column, sample in enumerate(samples):
            order = range(len(loops)) if number % 2 == 0 else reversed(range(len(loops)))
            for row in order:
                start = time.perf_counter()
                loops[row](dataset, sample)
                best[row, column] = min(best[row, column], time.perf_counter() - start)
    return best.sum(axis=1)


def generated(root):
    """A category in MVTec AD's tree: 1024-pixel photographs-like PNGs with blob masks."""
    rng = np.random.default_rng(0)
    for kind, count in (("good", 10), ("scratch", 20)):
        for number in range(count):
            small = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            path = root / "mvtec" / "screw" / "test" / kind / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            small.resize((1024, 1024), Image.Resampling.BICUBIC).save(path)
            if kind != "good":
                mask = np.zeros((1024, 1024), dtype=np.uint8)
                for top, left in rng.integers(0, 900, (3, 2)):
                    mask[top : top + 60, left : left + 80] = 255
                drawn = root / "mvtec" / "screw" / "ground_truth" / kind / f"{number:03d}_mask.png"
                drawn.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(drawn)
    return "mvtec_ad"


def dagm_like(root):
    """8,050 test images of ten classes, links to one tiny file, with their Labels.txt."""
    tiny = root / "tiny.png"
    Image.new("L", (8, 8)).save(tiny)
    for number in range(1, 11):
        total, bad = (575, 75) if number <= 6 else (1150, 151)
        part = root / "DAGM" / f"Class{number}" / "Test"
        (part.parent / "Train").mkdir(parents=True)
        (part / "Label").mkdir(parents=True)
        lines = ["1"]
        for at in range(1, total + 1):
            (part / f"{at:04d}.PNG").hardlink_to(tiny)
            drawn = f"{at:04d}_label.PNG" if at <= bad else "0"
            if at <= bad:
                (part / "Label" / drawn).hardlink_to(tiny)
            lines.append(f"{at:04d}\t{int(at <= bad)}\t{at:04d}.PNG\t0\t{drawn}\t")
        (part / "Label" / "Labels.txt").write_text("\r\n".join(lines))


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    result = result_of(__file__, arguments)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        reading(arguments, temporary, result)
        listing(temporary, result)
    result.write()


def reading(arguments, temporary, result):
    """Images a second of both loops, on every dataset that is there."""
    names = REAL if arguments.data_root else (generated(temporary / "images"),)
    root = arguments.data_root or temporary / "images"
    rows = []
    for name in names:
        try:
            dataset = load_dataset(name, root)
            samples = dataset.samples()[:100]
        except DataError as error:
            print(f"{name}: not there ({str(error).splitlines()[0]})")
            continue
        mine, theirs = best_seconds((ours, plain), dataset, samples, arguments.rounds)
        count = len(samples)
        rows.append([dataset.title, count, count / mine, count / theirs, mine / theirs])
    headers = ["dataset", "images", "images a second", "plain PIL", "ratio of times"]
    result.table("Reading an image and its mask at 518 px", headers, rows, ".3g")


def listing(temporary, result):
    """Seconds to index a tree of DAGM's size."""
    (temporary / "dagm").mkdir()
    dagm_like(temporary / "dagm")
    start = time.perf_counter()
    dataset = load_dataset("dagm", temporary / "dagm")
    count = len(dataset.samples())
    listed = time.perf_counter() - start
    dataset.fingerprint()
    hashed = time.perf_counter() - start - listed
    headers = ["files", "seconds to index", "seconds of the fingerprint"]
    result.table("A tree as DAGM's", headers, [[count, listed, hashed]])


if __name__ == "__main__":
    main()
