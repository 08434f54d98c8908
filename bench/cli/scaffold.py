"""`zsad new`: a method or a dataset to start from, which passes the conformance checks as it is."""

from __future__ import annotations

import keyword
import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from importlib import import_module, resources
from pathlib import Path
from string import Template
from typing import Literal

from .. import registry
from ..errors import UsageError
from ..files import write_text
from ..names import display_name, registry_name

Kind = Literal["method", "dataset"]


def write(
    kind: Kind,
    name: str,
    package: Path | None = None,
    out: Path | None = None,
    trainable: bool = False,
) -> list[Path]:
    """Write a new method or dataset.

    Args:
        kind: "method" or "dataset".
        name: registry name in lower case; hyphens become underscores.
        package: writes a pip package here that registers by an entry point. Without it and `out`
            the file goes into the checkout's folder, where it is registered by being there.
        out: writes the module alone into this folder, for a package that exists already.
        trainable: the method learns from an auxiliary dataset.

    Returns:
        The files that were written.

    Raises:
        UsageError: the name is taken or cannot be used, a file exists already, or neither
            `package` nor `out` is given outside a checkout.
    """
    stem = _stem(kind, name)
    if package is not None and out is not None:
        raise UsageError("give --package or --out, not both")
    if trainable and kind != "method":
        raise UsageError("--trainable is for methods: a dataset is not trained")
    words, source = _words(kind, stem), f"{'trainable' if trainable else kind}.py"
    if package is not None:
        words["module"] = f"{registry.NAMESPACE}_{stem}"
        written = {
            package / "pyproject.toml": _filled("pyproject.toml", words),
            package / f"{words['module']}.py": _filled(source, words),
            package / f"tests/test_{stem}.py": _filled(f"test_{kind}.py", {**words, "gap": "\n"}),
        }
    elif out is not None:
        written = {out / f"{stem}.py": _filled(source, words)}
    else:
        here = _folder(registry.FOLDER_OF[kind])
        inside = {**words, "bench": "..bench", "gap": "\n"}
        written = {here / f"{stem}.py": _filled(source, inside)}
        tests = here.parent / "tests" / here.name
        if tests.is_dir():
            written[tests / f"test_{stem}.py"] = _filled(f"test_{kind}.py", words)
    return _write_new(written)


def _words(kind: Kind, stem: str) -> dict[str, str]:
    """The values of the templates' $words."""
    folder = registry.FOLDER_OF[kind]
    return {
        "name": stem,
        "dashed": display_name(stem),
        "title": stem.replace("_", " ").capitalize(),
        "cls": "".join(part.capitalize() for part in stem.split("_")),
        "module": f"{registry.NAMESPACE}.{folder}.{stem}",
        "namespace": registry.NAMESPACE,
        "folder": folder,
        "bench": f"{registry.NAMESPACE}.bench",
        "gap": "",  # a blank line between two groups of imports, where a file has two
    }


def _filled(template: str, words: Mapping[str, str]) -> str:
    """The text of a file that is made from a template, with its $words replaced."""
    path = resources.files(__package__) / "templates" / f"{template}.template"
    return Template(path.read_text(encoding="utf-8")).substitute(words)


def _stem(kind: Kind, name: str) -> str:
    """The module of a registry name, which must be free and spelled as the registry does."""
    stem = registry_name(name)
    if stem in registry.names(kind):
        raise UsageError(f"there is a {kind} '{display_name(stem)}' already: choose another name")
    if re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) and not keyword.iskeyword(name):
        return stem
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    fit = re.sub(r"[^a-z0-9]+", "-", plain).strip("-").lstrip("0123456789-")
    if keyword.iskeyword(fit):
        fit = f"{fit}-{kind}"
    hint = f"take '{fit}'" if fit else "take lower-case letters, digits and hyphens"
    raise UsageError(f"'{name}' is not a usable name: {hint}")


def _folder(name: str) -> Path:
    """The folder of the checkout that holds methods or datasets.

    A checkout is where the project's own pyproject.toml lies beside that folder.
    """
    package = import_module(f"{registry.NAMESPACE}.{name}")
    places = [Path(place) for place in package.__path__ if Path(place).is_dir()]
    for place in places:
        if _is_checkout(place.parent) and os.access(place, os.W_OK):
            return place
    raise UsageError(
        f"{registry.NAMESPACE} does not run from a checkout that can be written to: give "
        "--package FOLDER for a package of your own, or --out FOLDER for the file alone"
    )


def _is_checkout(folder: Path) -> bool:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    named = project.get("project")
    return isinstance(named, dict) and named.get("name") == registry.NAMESPACE


def _write_new(files: dict[Path, str]) -> list[Path]:
    for path in files:
        if path.exists():
            raise UsageError(f"{path} exists already: choose another name")
    for path, text in files.items():
        write_text(path, text)
    return list(files)
