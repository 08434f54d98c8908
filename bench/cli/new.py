"""`zsad new`: a method or a dataset to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import registry
from ..errors import UsageError
from .options import out_option
from .terminal import echo


def new(
    kind: Annotated[str, typer.Argument(help="method or dataset")],
    name: Annotated[str, typer.Argument(help="Its registry name.")],
    package: Annotated[
        Path | None, out_option("--package", help="Write a pip package here.")
    ] = None,
    out: Annotated[Path | None, out_option(help="Write only the module, into this folder.")] = None,
    trainable: Annotated[bool, typer.Option(help="A trainable method.")] = False,
) -> None:
    """Start a method or a dataset: one file that passes the conformance checks as it is.

    Outside a checkout of the project, --package or --out says where it goes.
    """
    from .scaffold import write

    if kind not in registry.FOLDER_OF:
        raise UsageError(f"new takes method or dataset, not '{kind}'")
    for path in write(kind, name, package, out, trainable):  # type: ignore[arg-type]
        echo(f"wrote {path}")
