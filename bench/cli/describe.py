"""What `zsad list` says about methods, datasets and backbones."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import open_clip

from .. import registry
from ..backbone import Backbone, BackboneSpec
from ..data.check import words_for
from ..errors import message_of
from ..method import Method, Options, TrainableMethod, build
from ..names import display_name
from ..weights import known_backbones, random_backbone

LOG = logging.getLogger(__name__)
DATASET_WORDS = (
    "--datasets all: the paper's nineteen; all-known: these and the newer ones; builtin-all: what "
    "zsad draws itself"
)
SHALLOW = 4  # visual blocks; enough for the four layers that APRIL-GAN reads


Facts = dict[str, Any]
"""What is known of one thing, by the words that stand before it; JSON has the same keys."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What there is of one kind.

    Attributes:
        facts: of each sound one, with the same keys.
        broken: what is wrong with the others.
        note: what a reader must know to read the facts; "" for nothing.
    """

    facts: Sequence[Facts]
    broken: Sequence[str] = ()
    note: str = ""


def methods() -> Description:
    """Supervision, track, parameters, backbone, variants and options of each method."""
    sound, broken = _classes("method")
    facts = [
        {
            "name": display_name(name),
            "title": cls.title,
            "supervision": _by_variant(cls, cls.supervision_of),
            "track": _by_variant(cls, cls.track_of),
            "parameters": {
                "published": cls.published_parameters,
                "effective": _effective(cls),
            },
            "backbone": f"{cls.backbone_spec.name}:{cls.backbone_spec.pretrained}".rstrip(":"),
            "class-aware": cls.class_aware,
            "variants": [display_name(v) + "*" * (v == cls.default_variant) for v in cls.variants],
            "options": _options(cls),
        }
        for name, cls in sound.items()
    ]
    return Description(
        facts, broken, "* default variant; options show the default variant's values"
    )


def datasets() -> Description:
    """Domain, words that mean it, size, levels, auxiliary set and licence of each dataset."""
    sound, broken = _classes("dataset")
    facts = []
    for name, cls in sound.items():
        expected = cls.expected()
        facts.append(
            {
                "name": display_name(name),
                "title": cls.title,
                "domain": cls.domain,
                "meant by": words_for(name),
                "categories": len(cls.categories) or None,
                "normal": expected.test_normal,
                "anomalous": expected.test_anomalous,
                "image-level": cls.has_image_labels,
                "pixel-level": cls.has_masks,
                "auxiliary": display_name(cls.auxiliary),
                "licence": cls.source.licence,
            }
        )
    return Description(facts, broken, DATASET_WORDS)


def backbones() -> Description:
    """The built-in backbone and open_clip's names and tags."""
    return Description([{"name": f"{name}:{tag}"} for name, tag in known_backbones()])


DESCRIPTIONS = {"methods": methods, "datasets": datasets, "backbones": backbones}


def _by_variant(cls: type[Method], kind_of: Callable[[Options], str]) -> str:
    """What holds for the default variant, and for the variants that differ from it."""
    kinds = {variant: kind_of(options) for variant, options in cls.variants.items()}
    usual = kinds[cls.default_variant]
    others = [f"{display_name(name)}: {kind}" for name, kind in kinds.items() if kind != usual]
    return "; ".join([str(usual), *others])


def _effective(cls: type[Method]) -> int | None:
    """Parameters that learn, with the widths of the backbone the method was published with."""
    if not issubclass(cls, TrainableMethod):
        return 0
    try:
        return build(cls, _published_shape(cls.backbone_spec)).parameter_counts()[1]
    except Exception as error:  # a broken plug-in must not hide the other methods
        LOG.warning("%s cannot be built (%s)", cls.title, message_of(error))
        return None


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


def _classes(kind: str) -> tuple[dict[str, Any], list[str]]:
    """The classes of methods or datasets by name, and what is wrong with those that are broken."""
    broken = registry.faults(kind)
    load = registry.method_class if kind == "method" else registry.dataset_class
    sound = {name: load(name) for name in registry.names(kind) if name not in broken}
    return sound, list(broken.values())
