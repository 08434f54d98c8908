"""MVTec AD 2: eight scenes under several lightings; its public test set alone has masks."""

from __future__ import annotations

from pathlib import Path

from ._folders import child, descend, list_images, refuse_unreadable, subfolders
from ._laid_out import LaidOutDataset
from ._listing import Layout, Listing
from ._masks import pair_masks
from ._meta import MetaJson

PRIVATE = ("test_private", "test_private_mixed")


class PublicTest(Layout):
    """The release: <category>/test_public/{good,bad}, masks in test_public/ground_truth/bad.

    The two private test sets have no ground truth; MVTec's server alone measures them. Nothing of
    validation/ is listed: its images are normal ones kept for thresholds.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        known = dataset.known_folders(folder)
        return 2 if any(child(path, "test_public") for path in known) else 0

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        for path in subfolders(folder).values():
            found.add_folder(path, dataset, _list_category)
        known = dataset.known_folders(folder)
        private = [name for path in known for name in PRIVATE if child(path, name)]
        if private:
            found.notes.append(
                f"{' and '.join(dict.fromkeys(private))} have no ground truth and were left out"
            )
        return found


def _list_category(folder: Path, category: str, dataset: LaidOutDataset, found: Listing) -> None:
    public = child(folder, "test_public")
    good, bad = child(public, "good"), child(public, "bad")
    train, truth = descend(folder, "train", "good"), descend(public, "ground_truth", "bad")
    refuse_unreadable(train, good, bad, truth)
    if train is not None:
        found.samples += [dataset.sample(i, 0, category, split="train") for i in list_images(train)]
    if good is not None:
        found.samples += [dataset.sample(image, 0, category) for image in list_images(good)]
    images = [] if bad is None else list_images(bad)
    drawn = [] if truth is None else list_images(truth)
    masks = pair_masks(images, drawn, ("_mask",), found)
    found.samples += [
        dataset.sample(image, 1, category, anomaly_type="bad", masks=[masks[image]])
        for image in images
        if image in masks
    ]


class MVTecAD2(LaidOutDataset):
    """MVTec AD 2, its public test set."""

    name = "mvtec_ad_2"
    layouts = (PublicTest(), MetaJson())
