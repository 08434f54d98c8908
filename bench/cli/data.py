"""`zsad data`: what is on disk, where it comes from, what it looks like."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import registry
from ..errors import DataError, UsageError
from ..names import display_name
from .options import (
    DataRoot,
    DatasetOptions,
    Json,
    chosen_dataset,
    dataset_options,
    explained,
    out_option,
)
from .terminal import echo

if TYPE_CHECKING:
    from ..data.check import DatasetCheck

app = typer.Typer(
    help="Check datasets on disk, list their sources, show samples.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="A dataset.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        help="Datasets; all (the default): the paper's; all-known: every one; builtin-all: drawn."
    ),
]


@app.command()
@explained
def check(
    names: Names = None,
    data_root: DataRoot = None,
    open_files: bool = False,
    dataset_option: DatasetOptions = None,
    as_json: Json = False,
) -> None:
    """List what is usable, missing or wrong; exit with 1 if something is wrong.

    Args:
        open_files: Decode every image and mask.
    """
    from ..data import check as datacheck

    wanted = names or ["all"]
    every = datacheck.means_several(wanted)
    chosen = datacheck.chosen_names(wanted)
    checks = datacheck.check_all(
        wanted,
        data_root,
        open_files,
        dataset_options(dataset_option or [], chosen),
        lambda name: echo(f"opening {display_name(name)}", err=True) if open_files else None,
    )
    if as_json:
        echo(json.dumps([entry.to_json() for entry in checks], indent=2))
    else:
        echo(datacheck.table(checks))
        for entry in checks:
            if len(entry.categories) > 1 and (not every or entry.problems):
                echo(f"\n{datacheck.category_table(entry)}")
        for entry in checks:
            _echo_details(entry, every)
    if every and not datacheck.is_any_found(checks):
        where = "packages" if data_root is None else f"packages, and nothing below {data_root}"
        echo(
            f"zsad: no dataset but those of {where}: point --data-root at the folder that holds "
            "your datasets",
            err=True,
        )
    if datacheck.is_wrong(checks, every):
        raise typer.Exit(1)


def _echo_details(entry: DatasetCheck, every: bool) -> None:
    """Print the problems, notes and fingerprint of a dataset; if it is missing, only when named."""
    if entry.status == "missing" and every:
        return
    lines = [f"  wrong: {problem}" for problem in entry.problems[:20]]
    if len(entry.problems) > 20:
        lines.append(f"  wrong: {len(entry.problems) - 20} more, see --json")
    lines += [f"  note: {note}" for note in entry.notes]
    if entry.opened is not None:
        lines.append(
            f"  opened {entry.opened} samples; resizing loses {entry.regions_lost} regions"
        )
    if entry.fingerprint:
        lines.append(f"  test files {entry.fingerprint[:16]}")
    echo("\n".join([f"\n{entry.title}", *lines]))


@app.command()
@explained
def sources(names: Names = None, as_json: Json = False) -> None:
    """Print where datasets come from, their licence and the folders that are expected."""
    from ..data.check import chosen_names

    classes = [registry.dataset_class(name) for name in chosen_names(names or ["all"])]
    if as_json:
        facts = [{"name": c.name, "title": c.title, **asdict(c.source)} for c in classes]
        echo(json.dumps(facts, indent=2))
        return
    for found in classes:
        source = found.source
        lines = [
            f"{found.title} ({display_name(found.name)}), {found.domain}, {found.modality}",
            f"  page      {source.page}",
            f"  download  {source.download}",
            f"  licence   {source.licence}",
            f"  cite      {source.citation}",
            f"  folders   {', '.join(found.folders)}",
            *(f"  | {line}" for line in source.tree.splitlines()),
        ]
        echo("\n".join(lines) + "\n")


@app.command()
@explained
def show(
    name: Name,
    data_root: DataRoot = None,
    out: Annotated[Path | None, out_option()] = None,
    count: Annotated[int, typer.Option(min=1, max=1000)] = 24,
    columns: Annotated[int, typer.Option(min=1, max=50)] = 6,
    split: str = "test",
    dataset_option: DatasetOptions = None,
    as_json: Json = False,
) -> None:
    """Write a contact sheet with mask outlines.

    Args:
        out: PNG to write; default: NAME.png.
        count: Number of samples.
        columns: Tiles in a row.
        split: test or train
    """
    from ..data.contact_sheet import choose, contact_sheet, save

    if split not in ("test", "train"):
        raise UsageError(f"a split is 'train' or 'test', not '{split}'")
    dataset = chosen_dataset(name, data_root, dataset_option)
    samples = dataset.samples("test" if split == "test" else "train")
    if not samples:
        raise DataError(f"{dataset.title} in {dataset.root} has no {split} image to show")
    path = out or Path(f"{dataset.name}.png")
    save(contact_sheet(dataset, choose(samples, count), columns), path)
    shown = min(count, len(samples))
    if as_json:
        counts = {"shown": shown, "samples": len(samples)}
        echo(json.dumps({"file": str(path), "split": split, **counts}, indent=1))
    else:
        echo(f"{path}: {shown} of {len(samples)} {split} samples")


@app.command()
@explained
def meta(
    name: Name,
    data_root: DataRoot = None,
    out: Annotated[Path | None, out_option()] = None,
    cut: Path | None = None,
    code: str = "faprompt",
    png: Path | None = None,
    force: bool = False,
    dataset_option: DatasetOptions = None,
    as_json: Json = False,
) -> None:
    """Write the released codes' meta.json, so that they read the same samples.

    Args:
        out: File to write; default: meta.json in the dataset's folder.
        cut: Folder in the dataset's for pieces of images (SDD, AITEX).
        code: Released code whose class keys are written: faprompt, anomalyclip.
        png: Folder in the dataset's for PNG copies of what the released loaders misread: TIFFs,
            JPEG masks, turned photographs.
        force: Replace an existing file.
    """
    from ..data.check import is_below
    from ..data.meta_json import meta_of
    from ..dataset import SPLITS
    from ..files import write_text

    dataset = chosen_dataset(name, data_root, dataset_option)
    if out is None and (data_root is None or not is_below(dataset.root, data_root)):
        raise UsageError(f"{dataset.title} lies in {dataset.root}: name a file with --out")
    path = out or dataset.root / "meta.json"
    if path.exists() and not force:
        raise UsageError(f"{path} exists: choose another with --out, or replace it with --force")
    folders = [None if folder is None else dataset.root / folder for folder in (cut, png)]
    content = meta_of(dataset, folders[0], code, folders[1])
    write_text(path, json.dumps(content, indent=1) + "\n")
    rows = {key: sum(len(part) for part in classes.values()) for key, classes in content.items()}
    if as_json:
        echo(json.dumps({"file": str(path), "rows": rows}, indent=1))
    else:
        echo(f"{path}: {rows['train']} train and {rows['test']} test rows")
    known = dataset.categories if dataset.in_benchmark else {}
    own = {s.category for split in SPLITS for s in dataset.samples(split)} - known.keys()
    if own:
        names = ", ".join(sorted(own))
        added = f"not in the released dataset.py, add to generate_class_info there: {names}"
        echo(added, err=as_json)
    listed = (row for classes in content.values() for part in classes.values() for row in part)
    files = (row[key] for row in listed for key in ("img_path", "mask_path"))
    if any(Path(file).suffix.lower() in (".tif", ".tiff") for file in files):
        told = "TIFF files are listed, which the released loaders may not open: convert with --png"
        echo(told, err=as_json)
