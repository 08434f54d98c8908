"""Finding and reading the weights of a backbone: built-in, open_clip tags, files."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
import torch
from huggingface_hub import try_to_load_from_cache
from open_clip.pretrained import (
    download_pretrained_from_hf,
    download_pretrained_from_url,
    get_pretrained_cfg,
)
from torch import Tensor

from .backbone import Backbone
from .backbone_spec import (
    BUILT_IN,
    BUILT_IN_WEIGHTS,
    PRECISIONS,
    RANDOM,
    TINY,
    Precision,
    check_device,
    check_precision,
)
from .checkpoint import archive_hashes, file_sha256, read_tensors, sha256_in_url
from .errors import UsageError, WeightsError, reading, unknown_name

RANDOM_SEED = 0
RANDOM_SHA256 = f"{RANDOM}-{RANDOM_SEED}"  # stands for the hash of random weights
UNKNOWN_SHA256 = "unknown"  # of weights that are not on this machine
HUB_KEYS = (  # of a model config; open_clip builds from the hub what they name
    ("vision_cfg", "timm_model_name"),
    ("text_cfg", "hf_model_name"),
    ("text_cfg", "hf_tokenizer_name"),
)
UNUSED = ("input_resolution", "context_length", "vocab_size", "logit_bias")  # of a checkpoint
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def weights_folder() -> Path:
    """Where weights are looked for by file name: $ZSAD_WEIGHTS or ~/.cache/zsad/weights."""
    return Path(os.environ.get("ZSAD_WEIGHTS", Path.home() / ".cache" / "zsad" / "weights"))


def load_backbone(
    name: str | None = None,
    pretrained: str | Path | None = None,
    config: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
) -> Backbone:
    """Load a frozen CLIP.

    Args:
        name: an open_clip model name, "tiny" (the built-in one, also the default), or
            "NAME:PRETRAINED" in one string.
        pretrained: an open_clip tag ("openai", "laion400m_e31"), a checkpoint file, or "random"
            for seeded random weights.
        config: an open_clip model-config json, instead of a name.
        device: where the towers run.
        precision: "fp32", "fp64", or lower in the visual tower: "tf32" (on CUDA), and autocast of
            its blocks to "fp16" or "bf16".

    Raises:
        UsageError: unknown name, tag, precision or device, or the device lacks the precision.
        WeightsError: the weights are not there and cannot be downloaded, or do not fit; the
            message names the file, its sha256 where known, and where to put it.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", str(precision), PRECISIONS)
    where = _device(device)
    check_precision(precision, where)
    label, settings, tag, full_name = _asked(name, pretrained, config)
    file = Path(tag) if Path(tag).is_file() else None
    path = None if tag == RANDOM else file or _fetch(label, tag)
    model, openai = _unfilled(label, settings, tag, path)
    if where.type == "cuda":  # as images come to it there, see `Backbone`
        visual: Any = model.visual
        visual.conv1.to(memory_format=torch.channels_last)
    if path is not None:
        _load(model, path)
    backbone = Backbone(
        model=model.to(where, torch.float64 if precision == "fp64" else torch.float32),
        name=full_name,
        weights_sha256=RANDOM_SHA256 if path is None else file_sha256(path),
        tokenizer=_tokenizer(settings),
        device=where,
        precision=precision,
    )
    if openai and backbone.own_activation != "quick_gelu":
        raise WeightsError(f"OpenAI weights must run QuickGELU but '{label}' was built without it")
    return backbone


def outline_backbone(
    name: str | None = None,
    pretrained: str | Path | None = None,
    config: str | Path | None = None,
    precision: Precision = "fp32",
) -> Backbone:
    """A backbone's shapes and keys without its weights, which need not be on this machine.

    Methods are built on it in no memory, to be asked what they declare; what it encodes are shapes.

    Args:
        name: as of `load_backbone`; the others likewise.
        pretrained: weights that are not here count as unknown ones.
        config: instead of a name.
        precision: that features would have.

    Raises:
        UsageError: unknown name, tag or precision.
        WeightsError: the only file of the weights' name is another one.
    """
    label, settings, tag, full_name = _asked(name, pretrained, config)
    file = Path(tag) if Path(tag).is_file() else None
    path = None if tag == RANDOM else file or find_weights(label, tag)
    with torch.device("meta"):
        model, _ = _unfilled(label, settings, tag, path)
    absent = RANDOM_SHA256 if tag == RANDOM else UNKNOWN_SHA256
    return _Outline(
        model=model.to(torch.float64 if precision == "fp64" else torch.float32),
        name=full_name,
        weights_sha256=absent if path is None else file_sha256(path),
        tokenizer=_tokenizer(settings),
        device=torch.device("meta"),
        precision=precision,
    )


class _Outline(Backbone):
    """A backbone on torch's meta device, where nothing has a value but the ids of prompts."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids in memory, as methods look how long their prompts are."""
        return self.tokenizer(list(texts))

    def _reduced(self) -> AbstractContextManager[Any]:
        """Nothing is computed, in whatever precision; autocast does not know this device."""
        return nullcontext()

    @contextmanager
    def _exactly(self) -> Iterator[None]:
        """Likewise."""
        yield


def _unfilled(
    label: str, settings: Mapping[str, Any], tag: str, path: Path | None
) -> tuple[torch.nn.Module, bool]:
    """The model as its weights want to be run, with random ones, and whether they are OpenAI's."""
    published = {} if Path(tag).is_file() else get_pretrained_cfg(label, tag) or {}
    openai = tag == "openai" or (path is not None and file_sha256(path) in archive_hashes())
    if openai or published.get("quick_gelu"):  # open_clip itself only warns
        settings = {**settings, "quick_gelu": True}
    model = _build(settings)
    visual: Any = model.visual
    visual.image_mean, visual.image_std = published.get("mean"), published.get("std")
    return model, openai


def _asked(
    name: str | None, pretrained: str | Path | None, config: str | Path | None
) -> tuple[str, dict[str, Any], str, str]:
    """What `load_backbone` was asked for: name, model config, tag or file, and all in one string.

    Raises:
        UsageError: an unknown name, a broken model config, or nothing says which weights.
    """
    if name is not None and pretrained is None and ":" in name:
        name, _, pretrained = name.partition(":")
    if config is not None and name == BUILT_IN:
        name = None  # the default name, which a config replaces
    elif config is None and name in (None, BUILT_IN):
        name, config = BUILT_IN, TINY / "config.json"
        pretrained = BUILT_IN_WEIGHTS if pretrained is None else pretrained
    if config is not None:
        label, tag = name or Path(config).stem, pretrained
        settings = _read_config(Path(config))
        _refuse_hub_names(settings, f"model config {config}")
    else:
        label = str(name)
        settings, tag = _named_config(label), pretrained or default_tag(label)
        _refuse_hub_names(settings, f"backbone '{label}'")
    if tag is None:
        raise UsageError(f"backbone '{label}' needs weights: give pretrained=FILE, a tag or random")
    return label, settings, str(tag), f"{label}:{tag}" if config is None else label


def check_backbone(
    name: str, pretrained: str | None = None, config: str | Path | None = None
) -> None:
    """Refuse what `load_backbone` would refuse by its name, before anything is loaded.

    Raises:
        UsageError: unknown name or tag, no weights, or the model config is missing or broken.
        WeightsError: the checkpoint file does not exist.
    """
    label, _, tag, _ = _asked(name, pretrained, config)
    if tag != RANDOM and not Path(tag).is_file():
        origin(label, tag)


def random_backbone(settings: Mapping[str, Any], name: str) -> Backbone:
    """A backbone of some open_clip configuration with seeded random weights, on the CPU.

    Raises:
        UsageError: open_clip cannot build it.
    """
    return Backbone(
        model=_build(settings),
        name=name,
        weights_sha256=RANDOM_SHA256,
        tokenizer=_tokenizer(settings),
        device=torch.device("cpu"),
    )


def known_backbones() -> list[tuple[str, str]]:
    """(name, pretrained tag) of everything that can be asked for, the built-in one first."""
    pretrained = [(name, tag) for name, tag in open_clip.list_pretrained() if _is_plain(name)]
    return [(BUILT_IN, "built-in"), *pretrained]


def _is_plain(name: str) -> bool:
    """A ViT with a class token and open_clip's own text tower and tokenizer."""
    settings = open_clip.get_model_config(name) or {}
    vision = settings.get("vision_cfg", {})
    return (
        isinstance(vision.get("layers"), int)
        and "attentional_pool" not in vision
        and not any(key in settings.get(part, {}) for part, key in HUB_KEYS)
        and vision.get("pool_type", "tok") == "tok"
        and "multimodal_cfg" not in settings
    )


def _device(device: str | torch.device) -> torch.device:
    check_device(device)
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{device}' is not usable here ({error}): try cpu") from error
    return where


def _read_config(path: Path) -> dict[str, Any]:
    with reading(path, "model config", UsageError):
        settings = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(settings, dict):
        settings = settings.get("model_cfg", settings)
    needed = {"embed_dim", "vision_cfg", "text_cfg"}
    if not isinstance(settings, dict) or not needed <= settings.keys():
        raise UsageError(f"model config {path} needs embed_dim, vision_cfg and text_cfg")
    if not all(isinstance(settings[part], dict) for part in ("vision_cfg", "text_cfg")):
        raise UsageError(f"vision_cfg and text_cfg of model config {path} must be objects")
    return settings


def _named_config(name: str) -> dict[str, Any]:
    settings = open_clip.get_model_config(name)
    if settings is None:
        raise unknown_name("backbone", name, [BUILT_IN, *open_clip.list_models()])
    return dict(settings)


def _refuse_hub_names(settings: Mapping[str, Any], what: str) -> None:
    """Refuse a configuration for which open_clip would ask the hub while it builds the model."""
    for part, key in HUB_KEYS:
        if settings.get(part, {}).get(key):
            raise UsageError(
                f"{what} has {part}.{key} '{settings[part][key]}', which names a model of another "
                "library that is looked up on the Hugging Face hub: only open_clip's own ViT, text "
                "tower and tokenizer can be used, choose a CLIP or remove the key"
            )


def default_tag(name: str) -> str | None:
    """The tag that a name without one means: OpenAI's, else open_clip's first."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    return "openai" if "openai" in tags else (tags[0] if tags else None)


def _build(settings: Mapping[str, Any]) -> torch.nn.Module:
    """The model with seeded random weights, in fp32."""
    _refuse_hub_names(settings, "the model config")
    known = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        try:
            build = open_clip.CustomTextCLIP if settings.get("custom_text") else open_clip.CLIP
            model: torch.nn.Module = build(**{k: settings[k] for k in known if k in settings})
        except (TypeError, ValueError, RuntimeError, KeyError, AssertionError) as error:
            raise UsageError(f"the model config is not usable by open_clip ({error})") from error
    return model.float()


def _tokenizer(settings: Mapping[str, Any]) -> Callable[[list[str]], Tensor]:
    length = int(settings["text_cfg"].get("context_length", 77))
    return partial(open_clip.SimpleTokenizer(context_length=length), context_length=length)


@dataclass(frozen=True)
class Origin:
    """Where the weights of a tag come from, and where they are looked for.

    Attributes:
        file: where a user can put the file.
        hub: Hugging Face model id, or "".
        url: address of the file, or "".
        sha256: of the file, whole or its beginning; "" where unknown.
    """

    file: Path
    hub: str
    url: str
    sha256: str


def origin(name: str, tag: str) -> Origin:
    """The origin of an open_clip tag.

    A hub repository is trusted only if it has the tag: open_clip's table sends
    ViT-B-16-plus-240 laion400m_e32 to the repository of laion400m_e31, which is another model.

    Raises:
        UsageError: the model has other tags.
        WeightsError: the model has no tags, so this must have been meant as a file.
    """
    settings = get_pretrained_cfg(name, tag)
    if not settings:
        if Path(tag).suffix or "/" in tag:
            raise WeightsError(f"checkpoint file {tag} of backbone '{name}' does not exist")
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not tags:
            raise WeightsError(f"backbone '{name}': '{tag}' is neither a file nor a pretrained tag")
        raise unknown_name(f"pretrained tag (and no file) of {name}", tag, tags)
    url = str(settings.get("url") or "")
    hub = str(settings.get("hf_hub") or "").rstrip("/")
    if url and not hub.endswith(f".{tag}"):
        hub = ""
    file = Path(url).name or f"{name}-{tag}.safetensors"
    return Origin(weights_folder() / file, hub, url, sha256_in_url(url))


def find_weights(name: str, tag: str) -> Path | None:
    """The file of a tag if it is on this machine, without asking the network.

    Raises:
        WeightsError: the only file of that name has another sha256 than it should.
    """
    known = origin(name, tag)
    others = []
    for place in (known.file, Path.home() / ".cache" / "clip" / known.file.name):
        if place.is_file():
            if not known.sha256 or file_sha256(place).startswith(known.sha256):
                return place
            others.append(place)
    for file_name in HUB_FILES if known.hub else ():
        cached = try_to_load_from_cache(known.hub, file_name)
        if isinstance(cached, str):
            return Path(cached)
    if others:
        raise WeightsError(f"{others[0]} is another file: its sha256 is not {known.sha256}")
    return None


def _fetch(name: str, tag: str) -> Path:
    """The file of an open_clip tag, found here or downloaded."""
    found = find_weights(name, tag)
    if found is not None:
        return found
    known = origin(name, tag)
    try:
        if known.hub:
            _require_network(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
            return Path(download_pretrained_from_hf(known.hub))
        return Path(download_pretrained_from_url(known.url))  # which checks the sha256
    except Exception as error:
        place = known.url or f"the Hugging Face repository {known.hub}"
        sha256 = f" (sha256 {known.sha256})" if known.sha256 else ""
        raise WeightsError(
            f"weights of backbone {name}:{tag} are not here and could not be downloaded "
            f"({type(error).__name__}): get {known.file.name}{sha256} from {place} and put it at "
            f"{known.file}, or pass --backbone {name}:FILE"
        ) from error


def _require_network(address: str) -> None:
    """Fail at once where the host cannot be resolved; the hub's own retries take a minute.

    Raises:
        OSError: no such host; not checked behind a proxy.
    """
    if not getproxies():
        socket.getaddrinfo(urlsplit(address).hostname, None)


def _load(model: torch.nn.Module, path: Path) -> None:
    """Fill the model from a file; every tensor must be there and fit."""
    state = read_tensors(path)
    own = model.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("attn_mask")]
    foreign = [k for k in state if k not in own and k not in UNUSED]
    if missing or foreign:
        raise WeightsError(
            f"{path} does not fit the backbone: lacks {missing[:3] or 'nothing'}, "
            f"has unknown {foreign[:3] or 'nothing'}"
        )
    for key, tensor in state.items():
        if key in own and tuple(tensor.shape) != tuple(own[key].shape):
            raise WeightsError(
                f"{path} does not fit the backbone: '{key}' is {tuple(tensor.shape)}, "
                f"expected {tuple(own[key].shape)}"
            )
    model.load_state_dict(state, strict=False)
