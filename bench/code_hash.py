"""The hash of the source code that decides a number, without comments, docstrings and layout.

What decides the numbers of a method is its own module, all that this module imports from its own
distribution or from `zsad.methods`, and the modules of `bench/` listed here, each with the TOML
file of its name beside it. Other data and libraries have identities of their own and are not
followed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, entry_points
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ZsadError
from .names import registry_name
from .registry import FOLDER_OF, NAMESPACE, dataset_class, method_class

if TYPE_CHECKING:
    from .dataset import Dataset
    from .method import Method

CODE_HASHES = ("code", "training code")  # fields of an identity
TOWERS = (
    "arithmetic",
    "backbone",
    "backbone_spec",
    "blocks",
    "compiled_block",
    "text_forward",
    "visual_forward",
    "window_forward",
)
READING = (*TOWERS, "data.loading", "dataset", "images", "preprocess")
CONTRACT = (
    "anomaly_maps",
    "category",
    "learned_tensors",
    "method",
    "options",
    "prompt_learner",
    "prompts",
    "query",
    "randomness",
    "rows",
    "schedule",
    "scratch",
)
LEARNING = (
    *READING,
    *CONTRACT,
    "training.augmentation",
    "training.batches",
    "training.feature_cache",
    "training.loop",
    "training.optimisation",
    "training.sharded_array",
    "training.sources",
    "training.stages",
    "training.trainer",
)
SCORING = (
    *(*READING, *CONTRACT, "training.references"),
    *("running.answers", "running.evaluation", "running.measuring", "running.observation"),
)

_loaded: dict[str, tuple[ModuleSpec, str]] = {}
_closures: dict[str, tuple[ModuleSpec | None, list[str]]] = {}


def bench_code(modules: Iterable[str]) -> str:
    """sha256 over some modules of `bench/`, named as in this file's lists."""
    package = (__package__ or "").strip()
    return _joined(f"{package}.{module}" for module in modules)


def class_code(cls: type) -> str:
    """sha256 over the module of a class and all that it imports from its own distribution."""
    return _joined(imported_modules(cls.__module__))


def training_code(cls: type) -> str:
    """sha256 over the code that decides what a method learns."""
    return hashlib.sha256(f"{bench_code(LEARNING)} {class_code(cls)}".encode()).hexdigest()


def cell_code(method: type[Method], dataset: type[Dataset]) -> str:
    """The hash of the code that decides a method's numbers on a dataset, except its training."""
    code = [bench_code(SCORING), class_code(method)]
    if dataset.read.__module__ != f"{__package__}.dataset":
        code.append(class_code(dataset))
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def made_by_other_code(method: str, dataset: str, identity: Mapping[str, str]) -> bool:
    """Whether the identity of a result states other code than what is installed now.

    False where it states none, or where its method or dataset is not installed.
    """
    stated = {name: identity[name] for name in CODE_HASHES if name in identity}
    if not stated:
        return False
    try:
        cls, data = method_class(method), dataset_class(dataset)
    except ZsadError:
        return False
    installed = {"code": cell_code(cls, data), "training code": training_code(cls)}
    return any(installed[name] != value for name, value in stated.items())


def imported_modules(module: str) -> list[str]:
    """A module and those that it imports, directly or not, from its own distribution, sorted.

    A module of `zsad.methods` or `zsad.datasets` belongs together with all others of that folder.
    """
    spec = getattr(sys.modules.get(module), "__spec__", None)
    known = _closures.get(module)
    if spec is not None and known is not None and known[0] is spec:
        return known[1]
    inside = _own_names(module)
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        source = _source_file(name)
        if source is not None and source.suffix == ".py":
            waiting += _imports(name, source, inside)
    _closures[module] = (spec, sorted(found))
    return sorted(found)


def distribution_of(kind: str, name: str) -> Distribution | None:
    """The distribution that brings a method or dataset as an entry point; None for the folder's."""
    for point in entry_points(group=f"{NAMESPACE}.{FOLDER_OF[kind]}"):
        if registry_name(point.name) == registry_name(name):
            return point.dist
    return None


def source_hash(text: str) -> str:
    """sha256 of Python source without comments, docstrings and layout.

    Text that is not Python is hashed as it is.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and node.body and _is_text(node.body[0]):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode("utf-8", "surrogatepass")).hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _joined(modules: Iterable[str]) -> str:
    lines = [f"{module} {_module_hash(module)}" for module in sorted(set(modules))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _module_hash(module: str) -> str:
    """The hash of a module's source and texts as they were when it was first asked for.

    A module that is loaded does not change when its files do, so its first hash is kept until it
    is loaded again.
    """
    spec = getattr(sys.modules.get(module), "__spec__", None)
    known = _loaded.get(module)
    if spec is not None and known is not None and known[0] is spec:
        return known[1]
    source = _source_file(module)
    found = "no source"
    if source is not None and source.suffix == ".py":
        found = source_hash(source.read_text(encoding="utf-8", errors="surrogateescape"))
        texts = source.with_suffix(".toml")
        if texts.is_file():
            found += f" {hashlib.sha256(texts.read_bytes()).hexdigest()}"
    elif source is not None:
        found = hashlib.sha256(source.read_bytes()).hexdigest()
    if spec is not None:
        _loaded[module] = (spec, found)
    return found


def _source_file(module: str) -> Path | None:
    """Where a module's code lies; None for one without a file."""
    spec = getattr(sys.modules.get(module), "__spec__", None) or _find_spec(module)
    origin = getattr(spec, "origin", None)
    return Path(origin) if origin is not None and Path(origin).is_file() else None


def _find_spec(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None


def _own_names(module: str) -> frozenset[str]:
    """Packages and modules that belong to a module's distribution."""
    for folder in FOLDER_OF.values():
        if module.startswith(f"{NAMESPACE}.{folder}."):
            return frozenset({f"{NAMESPACE}.{folder}"})
    root = module.partition(".")[0]
    return frozenset({root, f"{NAMESPACE}.methods", *_siblings(root)})


@lru_cache(maxsize=64)
def _siblings(root: str) -> frozenset[str]:
    """Top-level names that the distribution of a plug-in's top-level name installs beside it."""
    points = [
        p for folder in FOLDER_OF.values() for p in entry_points(group=f"{NAMESPACE}.{folder}")
    ]
    for point in points:
        if point.module.partition(".")[0] == root and point.dist is not None:
            tops = {file.parts[0].removesuffix(".py") for file in point.dist.files or ()}
            return frozenset(top for top in tops if top.isidentifier() and top != NAMESPACE)
    return frozenset()


def _is_inside(module: str, inside: frozenset[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in inside)


def _imports(module: str, source: Path, inside: frozenset[str]) -> Iterator[str]:
    """What a file imports anywhere in it from its own distribution, with the packages around."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8", errors="surrogateescape"))
    except (SyntaxError, ValueError):
        return
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # dots that lead out of the package: it cannot run
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                inner = [f"{base}.{alias.name}" for alias in node.names if _is_inside(base, inside)]
                names = [base, *(name for name in inner if _find_spec(name) is not None)]
        for name in names:  # the code of the packages around a module runs when it is imported
            packages = accumulate(name.split("."), "{}.{}".format)
            yield from (part for part in packages if _is_inside(part, inside))
