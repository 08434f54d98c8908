"""Verbs for results that others read: `zsad site`, `zsad validate` and `zsad export`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import registry
from ..errors import UsageError, ZsadError
from ..names import known_name
from .options import AllowIncomplete, Json, out_option
from .terminal import echo

if TYPE_CHECKING:
    from ..records.record import Record

Sources = Annotated[
    list[Path],
    typer.Argument(help="Run directories or results repositories.", show_default=False),
]


def site(
    sources: Sources,
    out: Annotated[Path, out_option()],
    title: str = "Leaderboard",
    data_root: Path | None = None,
    bootstrap: Annotated[int, typer.Option(min=0)] = 2000,
    allow_incomplete: AllowIncomplete = False,
) -> None:
    """Write a static site: leaderboards by track, and pages of methods, datasets and comparisons.

    Records that are wrong do not count, and are named on the site.

    Args:
        out: Folder of the site.
        title: Heading of the first page.
        data_root: Show samples of the datasets in this folder; see their licences before you
            publish them. [default: built-in ones alone]
        bootstrap: Resamples of a comparison; 0 leaves comparisons out.
    """
    from ..analysis.resampling import Settings
    from ..records.repository import read_sources
    from ..site.catalogue import Catalogue
    from ..site.pages import Wishes, write_site

    catalogue = Catalogue.of(read_sources(sources), allow_incomplete)
    settings = Settings(replicates=bootstrap, allow_incomplete=allow_incomplete)
    wishes = Wishes(title, data_root, settings if bootstrap else None)
    if catalogue.refused:
        echo(f"{len(catalogue.refused)} wrong records are left out: see zsad validate", err=True)
    echo(str(write_site(catalogue, out, wishes)))


def validate(
    paths: list[Path],
    allow_unknown: bool = False,
    as_json: Json = False,
) -> None:
    """Check records; exit with 1 if one is wrong, with 2 if one cannot be read.

    Args:
        paths: Run directories, results repositories or records.
        allow_unknown: Take methods and datasets that are not installed here.
    """
    from ..analysis.validation import validate as checked

    verdict = checked(paths, allow_unknown)
    echo((verdict.to_json() if as_json else verdict.render()).rstrip("\n"))
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)


@dataclass(frozen=True)
class _Request:
    """What `zsad export` was asked for beside the records and the format."""

    out: Path | None
    project: str
    hub_names: Mapping[str, str]
    url: str
    organisation: str
    developer: str
    relationship: str

    @property
    def folder(self) -> Path:
        """Where files go.

        Raises:
            UsageError: it was not said.
        """
        if self.out is None:
            raise UsageError("name a folder to write to: --out PATH")
        return self.out


def export(
    sources: Sources,
    to: Annotated[str, typer.Option()],
    out: Annotated[Path | None, out_option()] = None,
    project: str = "zsad",
    hub_dataset: list[str] | None = None,
    url: str = "",
    organisation: str = "",
    developer: str = "",
    relationship: str = "third_party",
) -> None:
    """Write records in a format that others read, or log them to an experiment tracker.

    Args:
        to: repository, huggingface, every-eval-ever, mlflow or wandb.
        out: Folder to write to; mlflow may do without it.
        project: Experiment of mlflow, project of wandb.
        hub_dataset: huggingface: DATASET=OWNER/NAME on the Hub; may be repeated.
        url: huggingface, every-eval-ever: where the results are published.
        organisation: every-eval-ever: who ran the evaluation.
        developer: every-eval-ever: whose methods they are, if somebody else's.
        relationship: every-eval-ever: first_party, third_party, collaborative or other.
    """
    from ..records.repository import read_sources

    format = known_name("format", to, FORMATS)  # noqa: A001
    records = read_sources(sources)
    if not any(record.error is None for record in records):
        raise ZsadError("there is no finished record to export: 'zsad run' makes some")
    request = _Request(
        out, project, _hub_names(hub_dataset or []), url, organisation, developer, relationship
    )
    echo(FORMATS[format](records, request))


def _hub_names(pairs: Sequence[str]) -> dict[str, str]:
    """Names of datasets on the Hub from DATASET=OWNER/NAME, by registry name."""
    found = {}
    for pair in pairs:
        name, equals, hub = pair.partition("=")
        if not equals:
            raise UsageError(f"--hub-dataset takes DATASET=OWNER/NAME, not '{pair}'")
        found[registry.resolve("dataset", name).name] = hub
    return found


def _to_repository(records: Sequence[Record], request: _Request) -> str:
    from ..export.repository import place_records

    placed = place_records(records, request.folder)
    lines = [f"{item.state} {item.path}" for item in placed if item.state != "kept"]
    kept = sum(item.state == "kept" for item in placed)
    return "\n".join([*lines, f"{len(placed)} records, {kept} of them were there already"])


def _to_huggingface(records: Sequence[Record], request: _Request) -> str:
    from ..analysis.gathering import gather
    from ..analysis.matrix import arrange
    from ..export.huggingface import write_cards
    from ..export.results import results_of

    results = results_of(arrange(gather(records).records))
    written = write_cards(results, request.folder, request.hub_names, request.url)
    return "\n".join(map(str, written))


def _to_every_eval_ever(records: Sequence[Record], request: _Request) -> str:
    from ..analysis.resampling import DEFAULT_SETTINGS
    from ..export.every_eval_ever import Publisher, write_logs

    relationship: Any = request.relationship  # Publisher knows which there are
    publisher = Publisher(request.organisation, request.developer, relationship, request.url)
    written = write_logs(records, request.folder, publisher, DEFAULT_SETTINGS)
    return "\n".join(map(str, written))


def _to_mlflow(records: Sequence[Record], request: _Request) -> str:
    from ..export.to_mlflow import log_runs

    return f"{log_runs(records, request.out, request.project)} records logged"


def _to_wandb(records: Sequence[Record], request: _Request) -> str:
    from ..export.to_wandb import log_runs

    return f"{log_runs(records, request.folder, request.project)} records logged"


FORMATS: Mapping[str, Callable[[Sequence[Record], _Request], str]] = {
    "repository": _to_repository,
    "huggingface": _to_huggingface,
    "every-eval-ever": _to_every_eval_ever,
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
}
