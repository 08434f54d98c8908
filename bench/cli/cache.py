"""`zsad cache`: what frozen features are kept on this machine, and clearing them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..names import display_name, registry_name
from .options import Json, explained
from .terminal import echo

app = typer.Typer(
    help="List and clear the feature cache, which trained methods learn from.",
    no_args_is_help=True,
)


@app.command("list")
@explained
def show(as_json: Json = False) -> None:
    """List the cached features and masks, those used last first."""
    from tabulate import tabulate

    from ..training.cache_entries import cache_state

    state = cache_state()
    if as_json:
        content = {
            "root": str(state.root),
            "used": state.used,
            "budget": state.budget,
            "free": state.free,
            "entries": [entry.to_json() for entry in state.entries],
        }
        echo(json.dumps(content, indent=2))
        return
    rows = [
        [
            entry.folder.name.removeprefix("masks-")[:12],
            display_name(entry.dataset) or "?",
            entry.kind,
            entry.dtype or "?",
            entry.images or "?",
            f"{entry.nbytes / 1e9:.3f}",
            f"{entry.days():.1f}",
            ", ".join(entry.arrays),
        ]
        for entry in state.entries
    ]
    if rows:
        header = ["folder", "dataset", "kind", "dtype", "images", "GB", "days unused", "arrays"]
        echo(tabulate(rows, headers=header, tablefmt="simple", disable_numparse=True) + "\n")
    echo(
        f"{state.used / 1e9:.1f} of {state.budget / 1e9:.1f} GB in {state.root}, "
        f"{state.free / 1e9:.1f} GB free on the disk"
    )


@app.command()
@explained
def clear(
    dataset: str | None = None,
    older_than: Annotated[float, typer.Option(min=0)] = 0.0,
    dry_run: bool = False,
    as_json: Json = False,
) -> None:
    """Delete cached features and masks; they are computed again when they are needed.

    Args:
        dataset: Only what is of this dataset.
        older_than: Only what was not used for so many days.
        dry_run: Say what would be deleted, and stop.
    """
    from ..training.cache_entries import cache_state, chosen
    from ..training.cache_entries import clear as delete

    state = cache_state()
    named = None if dataset is None else registry_name(dataset)
    entries = chosen(state.entries, named, older_than)
    if not dry_run:
        delete(entries)
    nbytes = sum(entry.nbytes for entry in entries)
    if as_json:
        listed = [entry.to_json() for entry in entries]
        echo(json.dumps({"deleted": not dry_run, "bytes": nbytes, "entries": listed}, indent=2))
        return
    done = "would be freed" if dry_run else "freed"
    echo(f"{nbytes / 1e9:.1f} GB in {len(entries)} of {len(state.entries)} folders {done}")
