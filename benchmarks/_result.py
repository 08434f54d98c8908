"""What a script measured: tables on the screen as they come, and one JSON file at the end."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from zsad.bench.records.provenance import environment


@dataclass(frozen=True)
class Table:
    """Rows of values as they were measured; `floats` is the format in which numbers are printed."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    floats: str

    def to_text(self) -> str:
        """For a terminal or a page, as GitHub writes tables."""
        return tabulate(self.rows, self.headers, tablefmt="github", floatfmt=self.floats)


@dataclass
class Result:
    """Tables and ratios of one script on one machine.

    Attributes:
        script: its name, without suffix.
        arguments: what it was called with.
        ratios: name -> quotient of two times that were measured in one process.
    """

    script: str
    arguments: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)

    def table(
        self, title: str, headers: Sequence[str], rows: Iterable[Sequence[Any]], floats: str = ".2f"
    ) -> None:
        """Keep a table and print it."""
        kept = Table(title, headers, [list(row) for row in rows], floats)
        self.tables.append(kept)
        print(f"\n{title}\n\n{kept.to_text()}", flush=True)

    def ratio(self, name: str, value: float) -> None:
        """Keep a ratio and print it."""
        self.ratios[name] = value
        print(f"{name}: {value:.2f}x", flush=True)

    def write(self) -> None:
        """Write the JSON file, where one was asked for."""
        path = self.arguments.pop("json", None)
        if path is None:
            return
        device = str(self.arguments.get("device") or "cpu")
        about = {"device": device_name(device), "threads": torch.get_num_threads()}
        content = {**asdict(self), "machine": {**environment(), **about}}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, default=str) + "\n")


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser with a script's first sentence and the option `--json FILE`."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here")
    return parser


def result_of(file: str, arguments: argparse.Namespace) -> Result:
    """An empty result of a script (its `__file__`)."""
    return Result(Path(file).stem, vars(arguments))


def device_name(device: str) -> str:
    """The model of a GPU or of the processor."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo")
    if lines.exists():
        for line in lines.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
