"""What `zsad list` says about methods, datasets and backbones."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import open_clip
from tabulate import tabulate

from .. import registry
from ..backbone import Backbone, BackboneSpec
from ..errors import message_of
from ..method import Method, TrainableMethod, build
from ..names import display_name
from ..weights import known_backbones, random_backbone

LOG = logging.getLogger(__name__)
SHALLOW = 4  # visual blocks; enough for the four layers that APRIL-GAN reads


def describe_methods() -> str:
    """A table of all methods: supervision, parameters, backbone, variants, options."""
    rows = []
    broken = registry.faults("method")
    for name in registry.names("method"):
        if name in broken:
            continue
        cls = registry.method_class(name)
        variants = [display_name(v) + "*" * (v == cls.default_variant) for v in cls.variants]
        rows.append(
            [
                display_name(name),
                cls.title,
                _supervision(cls),
                f"{cls.published_parameters:,}",
                _effective(cls),
                f"{cls.backbone_spec.name}:{cls.backbone_spec.pretrained}",
                "yes" if cls.class_aware else "no",
                ", ".join(variants),
                _options(cls),
            ]
        )
    header = [
        "name",
        "title",
        "supervision",
        "published",
        "effective",
        "backbone",
        "class-aware",
        "variants",
        "options",
    ]
    header[3:5] = ["published parameters", "effective parameters"]
    widths = [None, None, 24, None, None, 22, None, 24, 44]
    table = _table(rows, header, widths)
    notes = ["* default variant; options show the default variant's values", *broken.values()]
    return "\n".join([table, "", *notes])


def describe_datasets() -> str:
    """A table of all datasets: domain, size, levels, auxiliary set, licence."""
    rows = []
    broken = registry.faults("dataset")
    for name in registry.names("dataset"):
        if name in broken:
            continue
        cls = registry.dataset_class(name)
        counts = [info.counts for info in cls.categories.values()]
        rows.append(
            [
                display_name(name),
                cls.title,
                cls.domain,
                len(cls.categories) or "-",
                _total([c.test_normal for c in counts]),
                _total([c.test_anomalous for c in counts]),
                "yes" if cls.has_image_labels else "no",
                "yes" if cls.has_masks else "no",
                display_name(cls.auxiliary),
                cls.source.licence,
            ]
        )
    header = [
        "name",
        "title",
        "domain",
        "categories",
        "normal",
        "anomalous",
        "image-level",
        "pixel-level",
        "auxiliary",
        "licence",
    ]
    table = _table(rows, header, [None] * 9 + [30])
    return "\n".join([table, *([""] if broken else []), *broken.values()])


def describe_backbones() -> str:
    """The built-in backbone and open_clip's names and tags."""
    return "\n".join(f"{name}:{tag}" for name, tag in known_backbones())


DESCRIPTIONS = {
    "methods": describe_methods,
    "datasets": describe_datasets,
    "backbones": describe_backbones,
}


def _supervision(cls: type[Method]) -> str:
    """That of the default variant, and of the variants that differ from it."""
    kinds = {variant: cls.supervision_of(options) for variant, options in cls.variants.items()}
    usual = kinds[cls.default_variant]
    others = [f"{display_name(name)}: {kind}" for name, kind in kinds.items() if kind != usual]
    return "; ".join([str(usual), *others])


def _effective(cls: type[Method]) -> str:
    """Parameters that learn, with the widths of the backbone the method was published with."""
    if not issubclass(cls, TrainableMethod):
        return "0"
    try:
        return f"{build(cls, _published_shape(cls.backbone_spec)).parameter_counts()[1]:,}"
    except Exception as error:  # somebody's plug-in, and not what was asked for
        LOG.warning("%s cannot be built (%s)", cls.title, message_of(error))
        return "unknown"


@lru_cache(maxsize=2)
def _published_shape(spec: BackboneSpec) -> Backbone:
    """A published backbone with random weights; its visual tower is cut, which no count sees."""
    config = {**(open_clip.get_model_config(spec.name) or {})}
    config["vision_cfg"] = {**config["vision_cfg"], "layers": SHALLOW}
    return random_backbone(config, spec.name)


def _options(cls: type[Method]) -> str:
    """The default variant's options, then those that differ on an auxiliary dataset."""
    chosen = cls.variants[cls.default_variant]
    values = {f.name: getattr(chosen, f.name) for f in dataclasses.fields(chosen)}
    parts = [_values({name: value for name, value in values.items() if value is not None})]
    if issubclass(cls, TrainableMethod):
        parts += [
            f"on {display_name(name)}: {_values(options)}"
            for name, options in cls.auxiliary_options.items()
        ]
    return "; ".join(parts)


def _values(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{display_name(name)}={value}" for name, value in options.items())


def _total(counts: Sequence[int | None]) -> int | str:
    known = [c for c in counts if c is not None]
    return sum(known) if known and len(known) == len(counts) else "-"


def _table(rows: list[list[Any]], header: list[str], widths: list[int | None]) -> str:
    return tabulate(
        rows, headers=header, tablefmt="simple", maxcolwidths=widths, disable_numparse=True
    )
