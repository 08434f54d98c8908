"""The `zsad` command: its verbs, and how errors become one line and an exit code.

Nothing heavy is imported here; a verb imports what it needs when it is called.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ..errors import INTERRUPTED, ZsadError
from . import cache, data, listing, new, predict, publish, report, results, run, study, train
from .options import explained
from .terminal import PrintableFormatter, echo

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
VERBS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "plan": run.show_plan,
    "list": listing.list_names,
    "train": train.train,
    "predict": predict.predict,
    "new": new.new,
    "table": results.table,
    "compare": results.compare,
    "check": results.check,
    "rescore": results.rescore,
    "study": study.study,
    "merge": results.merge,
    "report": report.report,
    "figure": report.figure,
    "site": publish.site,
    "validate": publish.validate,
    "export": publish.export,
}
for name, verb in VERBS.items():
    app.command(name)(explained(verb))
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")

CLOSED_PIPE = 141  # 128 + SIGPIPE, what a shell reports of cat or git in the same place


def main() -> None:
    """Entry point: errors become one line and an exit code.

    0: done. 1: the verb did its work and its answer is no (`typer.Exit(1)`, or an error whose
    `exit_code` says so). 2: it could not do its work, whatever the reason. 130: the user
    interrupted it. 141: its output is no longer read.
    """
    lines = logging.StreamHandler()
    lines.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(handlers=[lines], level=logging.WARNING)
    try:
        _report_errors()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        sys.exit(CLOSED_PIPE)


def _report_errors() -> None:
    """Run the verb; an error is printed as one line, a fault of the program as its traceback."""
    try:
        _run_verb()
    except ZsadError as error:
        echo(f"zsad: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that must not be written
        echo(f"zsad: {error}", err=True)
        sys.exit(2)
    except Exception:  # a fault of the program: Python's own exit code would say "the answer is no"
        echo(traceback.format_exc(), err=True)
        sys.exit(2)


def _run_verb() -> None:
    """Run the verb; raise again what typer turned into an exit code of 1.

    typer does so with a broken pipe and an end of file, older versions with an interrupt too.
    """
    try:
        app()
    except SystemExit as end:
        hidden: BaseException | None = end
        while hidden is not None:
            if isinstance(hidden, (KeyboardInterrupt, BrokenPipeError, EOFError)):
                raise hidden from None
            hidden = hidden.__cause__ or hidden.__context__
        raise


def _drop_output() -> None:
    """Discard what the streams still hold: Python would fail to write it when it ends."""
    with Path(os.devnull).open("w") as null:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # a stream without a file
                os.dup2(null.fileno(), stream.fileno())


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        echo(f"zsad {version('zsad')}")
        raise typer.Exit


@app.callback()
def every_verb(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="The version, and stop.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Compare zero-shot anomaly detection methods: run, table, check, report."""


if __name__ == "__main__":
    main()
