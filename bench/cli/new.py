"""`zsad new`: a method or a dataset to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .. import registry
from ..errors import UsageError
from .options import out_option
from .terminal import echo


def new(
    kind: str,
    name: str,
    package: Annotated[Path | None, out_option("--package")] = None,
    out: Annotated[Path | None, out_option()] = None,
    trainable: bool = False,
) -> None:
    """Start a method or a dataset: one file that passes the conformance checks as it is.

    Outside a checkout of the project, --package or --out says where it goes.

    Args:
        kind: method or dataset
        name: Its registry name.
        package: Write a pip package here.
        out: Write only the module, into this folder.
        trainable: A trainable method.
    """
    from .scaffold import write

    if kind not in registry.FOLDER_OF:
        raise UsageError(f"new takes method or dataset, not '{kind}'")
    for path in write(kind, name, package, out, trainable):  # type: ignore[arg-type]
        echo(f"wrote {path}")
