"""The frozen CLIP: one visual forward for many readers, and the text tower for learned prompts.

A `Backbone` wraps an open_clip model and never changes it. It runs the towers block by block, so
that a single pass over the images yields the ordinary path and the V-V path together (the V-V path
never feeds back into the ordinary one, methods of CLIP-Surgery and AnomalyCLIP).

Axes: B images, L patch tokens, D embedding (the joint space, or a tower's width before it), W width
of the text tower, P prompts, T prompt positions, n deep tokens, S image side.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import UsageError

Activation = Literal["own", "gelu", "quick_gelu"]
PosEmbed = Literal["bilinear", "bicubic"]
Precision = Literal["fp64", "fp32", "fp16", "bf16"]

PRECISIONS: Mapping[str, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
BUILT_IN = "tiny"
RANDOM = "random"
TINY = Path(__file__).parent / "tiny"
BUILT_IN_WEIGHTS = TINY / "tiny.safetensors"
SMALL = 128  # width of both towers up to which a step waits for calls, not for products
WINDOW_TOKENS_AT_ONCE = 1 << 16  # bounds the memory of `encode_windows`


class TokenSpec(NamedTuple):
    """Names one set of patch tokens that a method reads.

    Attributes:
        layer: the block that the tokens leave, counted from 1; 0 is the patch embeddings, which
            enter ln_pre.
        value_from: None for CLIP's own attention; k for the V-V path that branches off at block k.
    """

    layer: int
    value_from: int | None = None


@dataclass(frozen=True)
class BackboneSpec:
    """The backbone that a method was published with, and how it was run.

    Attributes:
        name: open_clip model name.
        pretrained: open_clip pretrained tag.
        image_size: square input in pixels.
        activation: "own" is what the weights were trained with; other values override it.
        pos_embed: how the positional grid is resized: "bilinear" (align_corners False, no
            antialias: AnomalyCLIP's library) or "bicubic" (antialiased: open_clip).
    """

    name: str = "ViT-L-14-336-quickgelu"
    pretrained: str = "openai"
    image_size: int = 518
    activation: Activation = "own"
    pos_embed: PosEmbed = "bilinear"


@dataclass(frozen=True)
class VisualFeatures:
    """What one visual forward gives.

    Attributes:
        class_token: [B, D] class token of the last block through ln_post and the projection.
        class_token_no_ln: [B, D] the same without ln_post (AnomalyCLIP, FAPrompt).
        tokens: TokenSpec -> [B, L, D] patch tokens as they leave the block, no class token.
        grid: rows and columns of the patches, rows * columns = L.
    """

    class_token: Tensor
    class_token_no_ln: Tensor
    tokens: Mapping[TokenSpec, Tensor]
    grid: tuple[int, int]

    def select(self, specs: Iterable[TokenSpec]) -> VisualFeatures:
        """The same features with these tokens only, so that a method sees what it declared."""
        kept = {spec: self.tokens[spec] for spec in specs}
        return VisualFeatures(self.class_token, self.class_token_no_ln, kept, self.grid)

    def map(self, change: Callable[[Tensor], Tensor]) -> VisualFeatures:
        """The same features with `change` applied to every tensor (to move, cast or slice them)."""
        return VisualFeatures(
            change(self.class_token),
            change(self.class_token_no_ln),
            {spec: change(tokens) for spec, tokens in self.tokens.items()},
            self.grid,
        )

    @classmethod
    def joined(cls, parts: Sequence[VisualFeatures]) -> VisualFeatures:
        """Features of several batches, of the same tokens and grid, as those of one."""
        first = parts[0]
        return cls(
            torch.cat([part.class_token for part in parts]),
            torch.cat([part.class_token_no_ln for part in parts]),
            {spec: torch.cat([part.tokens[spec] for part in parts]) for spec in first.tokens},
            first.grid,
        )

    def __len__(self) -> int:
        return self.class_token.shape[0]


@dataclass
class ForwardCounter:
    """How many images and prompts went through the towers; views of a backbone share one."""

    images: int = 0
    windows: int = 0
    prompts: int = 0


def check_device(device: str | torch.device) -> None:
    """Refuse a CUDA device that this machine does not have.

    Raises:
        UsageError: names the device and what there is.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"device '{device}' is unknown: take cpu, cuda or cuda:1") from error
    if wanted.type != "cuda":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (wanted.index or 0) >= count:
        raise UsageError(
            f"device '{device}' is not there, this machine has {count or 'no'} CUDA devices that "
            "torch can use: take --device cpu or auto"
        )


@dataclass
class Backbone:
    """A frozen CLIP: images and text in, features in one joint space out.

    Built by `load_backbone`. `view` gives the same weights run with another activation or another
    positional interpolation; the weights themselves are never changed.

    Attributes:
        model: the open_clip model, frozen, in eval mode, on `device`.
        name: as asked for ("ViT-L-14-336:openai", "tiny").
        weights_sha256: identity of the weights.
    """

    model: Any
    name: str
    weights_sha256: str
    tokenizer: Callable[[list[str]], Tensor]
    device: torch.device
    precision: Precision = "fp32"
    activation: Activation = "own"
    pos_embed: PosEmbed = "bilinear"
    counter: ForwardCounter = field(default_factory=ForwardCounter)

    def __post_init__(self) -> None:
        self.visual = self.model.visual
        self.text = self.model if hasattr(self.model, "token_embedding") else self.model.text
        self._check_towers()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.model.eval()

    def _check_towers(self) -> None:
        visual, text = self.visual, self.text
        usable = (
            hasattr(visual, "conv1")
            and hasattr(visual, "class_embedding")
            and getattr(visual, "attn_pool", None) is None
            and getattr(visual, "pool_type", "tok") == "tok"
            and hasattr(text, "token_embedding")
            and hasattr(text, "transformer")
        )
        if not usable:
            raise UsageError(
                f"backbone '{self.name}' is not a ViT CLIP with a class token and a plain text "
                "tower: choose one such as ViT-L-14-336, ViT-B-16-plus-240 or tiny"
            )

    # -- what the towers look like ------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Blocks of the visual tower."""
        return len(self.visual.transformer.resblocks)

    @property
    def text_depth(self) -> int:
        """Blocks of the text tower."""
        return len(self.text.transformer.resblocks)

    @property
    def width(self) -> int:
        """Width of the visual tower."""
        return int(self.visual.conv1.out_channels)

    @property
    def text_width(self) -> int:
        """W, the width of the text tower."""
        return int(self.text.token_embedding.weight.shape[1])

    @property
    def embed_dim(self) -> int:
        """D, the joint embedding."""
        return int(self.visual.proj.shape[1])

    @property
    def patch_size(self) -> int:
        """Pixels along a side of a patch."""
        return int(self.visual.conv1.kernel_size[0])

    @property
    def small(self) -> bool:
        """Both towers are so small that one thread learns fastest, and exactness costs little."""
        return max(self.width, self.text_width) <= SMALL

    @property
    def training_precision(self) -> Precision:
        """What a run trains methods in: small backbones in double precision, others as asked.

        What another processor computes differs in the last bit, and training makes that grow to
        the second digit of a metric. In double precision it stays out of sight, and where the
        towers are small it costs little.
        """
        return "fp64" if self.small and self.precision == "fp32" else self.precision

    @property
    def native_grid(self) -> int:
        """Patches along a side at the size the weights were trained at."""
        rows: int = self.visual.positional_embedding.shape[0]
        return math.isqrt(rows - 1)

    @property
    def native_size(self) -> int:
        """The image size the weights were trained at, in pixels."""
        return self.native_grid * self.patch_size

    @property
    def own_activation(self) -> Literal["gelu", "quick_gelu"]:
        """The activation that the model was built with."""
        kind = type(self.visual.transformer.resblocks[0].mlp.gelu).__name__
        return "quick_gelu" if kind == "QuickGELU" else "gelu"

    @property
    def mean(self) -> tuple[float, float, float]:
        """Per-channel mean of the normalisation the weights expect."""
        red, green, blue = getattr(self.visual, "image_mean", None) or OPENAI_MEAN
        return red, green, blue

    @property
    def std(self) -> tuple[float, float, float]:
        """Per-channel standard deviation of the normalisation the weights expect."""
        red, green, blue = getattr(self.visual, "image_std", None) or OPENAI_STD
        return red, green, blue

    def layer(self, of_24: int) -> int:
        """The block that stands where block `of_24` of ViT-L/14 (24 blocks) stands.

        The identity for 24 blocks; 6, 12, 18, 24 become 2, 4, 6, 8 of 8.
        """
        return max(1, round(of_24 * self.depth / 24))

    def text_layer(self, of_12: int) -> int:
        """The text block that stands where block `of_12` of 12 stands; the identity for 12."""
        return max(1, round(of_12 * self.text_depth / 12))

    def fitting_size(self, preferred: int) -> int:
        """`preferred` where the positional grid can be resized to it, else the native size.

        A backbone trained on images of less than 224 px keeps its own size.
        """
        fits = preferred % self.patch_size == 0 and self.native_size >= 224
        return preferred if fits else self.native_size

    def view(self, activation: Activation = "own", pos_embed: PosEmbed = "bilinear") -> Backbone:
        """The same weights, run with this activation and this positional interpolation."""
        if (activation, pos_embed) == (self.activation, self.pos_embed):
            return self
        other = copy.copy(self)
        other.activation, other.pos_embed = activation, pos_embed
        return other

    def forward_key(self, image_size: int) -> tuple[str, str, str, int, str]:
        """Two views with equal keys compute equal features, so one forward serves both."""
        resized = "native" if image_size == self.native_size else self.pos_embed
        return (self.weights_sha256, self._activation, resized, image_size, self.precision)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and of all that the towers give; lower precisions are autocast."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    @property
    def _activation(self) -> str:
        return self.own_activation if self.activation == "own" else self.activation

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision in ("fp64", "fp32"):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=PRECISIONS[self.precision])

    # -- images -------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_image(self, images: Tensor, specs: Iterable[TokenSpec] = ()) -> VisualFeatures:
        """Encode a batch of images in one pass.

        The tensors carry no gradient yet may enter a graph (`no_grad`, not `inference_mode`).

        Args:
            images: [B, 3, S, S] normalised, S a multiple of the patch size.
            specs: the patch tokens to keep, of all methods that share the pass.

        Raises:
            UsageError: the size is not a multiple of the patch size, or a layer does not exist.
        """
        wanted = frozenset(specs)
        self.check_specs(wanted)
        with self._autocast():
            embedded = self._embed_images(images.to(self.dtype))  # [B, 1 + L, D]
            side = images.shape[-1] // self.patch_size
            self.counter.images += len(images)
            kept: dict[TokenSpec, Tensor] = {}
            if TokenSpec(0) in wanted:
                kept[TokenSpec(0)] = embedded[:, 1:]
            x = self.visual.ln_pre(embedded)
            value_paths = {spec.value_from for spec in wanted if spec.value_from is not None}
            running: dict[int, Tensor] = {}
            for number, block in enumerate(self.visual.transformer.resblocks, start=1):
                for start in value_paths:
                    if start == number:
                        running[start] = x
                ordinary, value = self._attend(block, x, with_value=bool(running))
                if value is not None:
                    # A new tensor each time: the released code added in place, and every layer
                    # it had kept became the last one.
                    running = {start: total + value for start, total in running.items()}
                x = self._feed_forward(block, x + ordinary)
                for spec in wanted:
                    if spec.layer == number:
                        tokens = x if spec.value_from is None else running[spec.value_from]
                        kept[spec] = tokens[:, 1:]
            class_token = x[:, 0]
            projected = self.visual.ln_post(class_token) @ self.visual.proj
            plain = class_token @ self.visual.proj
        return VisualFeatures(
            projected.to(self.dtype),
            plain.to(self.dtype),
            {s: t.to(self.dtype) for s, t in kept.items()},
            (side, side),
        )

    def project(self, tokens: Tensor) -> Tensor:
        """Patch tokens [..., D] into the joint space [..., D]: ln_post, then the projection.

        Gradients flow to the tokens.
        """
        with self._autocast():
            projected: Tensor = self.visual.ln_post(tokens) @ self.visual.proj
        return projected.to(self.dtype)

    @torch.no_grad()
    def encode_windows(self, patch_embeddings: Tensor, windows: Tensor) -> Tensor:
        """Encode windows of patches as short sequences of their own (WinCLIP).

        Every window is the class token and its patch embeddings, sent through ln_pre and the whole
        tower; patches outside are dropped, not masked.

        Args:
            patch_embeddings: [B, L, D] the tokens `TokenSpec(0)`.
            windows: [windows, patches of a window] patch indices.

        Returns:
            [B, windows, D] class tokens of the windows through ln_post and the projection.
        """
        batch, (count, size) = len(patch_embeddings), windows.shape
        first = self.visual.class_embedding + self.visual.positional_embedding[0]
        first = first.to(patch_embeddings.dtype).expand(batch * count, 1, -1)
        patches = patch_embeddings[:, windows].reshape(batch * count, size, -1)
        sequences = torch.cat([first, patches], dim=1)  # [B * windows, 1 + size, D]
        self.counter.windows += batch * count
        step = max(1, WINDOW_TOKENS_AT_ONCE // (size + 1))
        parts = []
        with self._autocast():
            for part in torch.split(sequences, step):
                x = self.visual.ln_pre(part)
                for block in self.visual.transformer.resblocks:
                    x = self._feed_forward(block, x + self._attend(block, x)[0])
                parts.append((self.visual.ln_post(x[:, 0]) @ self.visual.proj).to(self.dtype))
        return torch.cat(parts).reshape(batch, count, -1)

    def check_specs(self, specs: frozenset[TokenSpec]) -> None:
        """Refuse patch tokens of layers that this backbone does not have.

        Raises:
            UsageError: names the tokens and the number of blocks.
        """
        for spec in specs:
            start = 1 if spec.value_from is None else spec.value_from
            if not (0 <= spec.layer <= self.depth and 1 <= start <= max(spec.layer, 1)):
                raise UsageError(
                    f"{spec} does not exist in backbone '{self.name}' of {self.depth} blocks"
                )

    def _embed_images(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, 1 + L, D]: class token and patches with positions, before ln_pre."""
        size = images.shape[-1]
        if images.shape[-2] != size or size % self.patch_size:
            raise UsageError(
                f"images of {tuple(images.shape[-2:])} px do not fit backbone '{self.name}': give "
                f"squares whose side is a multiple of {self.patch_size}"
            )
        patches = self.visual.conv1(images).flatten(2).transpose(1, 2)  # [B, L, D]
        first = self.visual.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
        positions = self._positions(size // self.patch_size)
        return torch.cat([first, patches], dim=1) + positions.to(patches.dtype)

    def _positions(self, side: int) -> Tensor:
        """The positional embedding [1 + side * side, D]; the class token's row is never resized."""
        own: Tensor = self.visual.positional_embedding
        if side == self.native_grid:
            return own
        with torch.autocast(self.device.type, enabled=False):
            grid = own[1:].reshape(1, self.native_grid, self.native_grid, -1).permute(0, 3, 1, 2)
            resized = F.interpolate(
                grid.to(self.dtype),
                size=(side, side),
                mode=self.pos_embed,
                align_corners=False,
                antialias=self.pos_embed == "bicubic",
            )
        return torch.cat([own[:1], resized.flatten(2)[0].T.to(own.dtype)])

    # -- text ---------------------------------------------------------------------------------

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids [P, 77] of prompts, on the backbone's device."""
        return self.tokenizer(list(texts)).to(self.device)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids [P, T] -> frozen token embeddings [P, T, W], without positions."""
        embedded: Tensor = self.text.token_embedding(ids)
        return embedded

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str] | Tensor, batch_size: int = 512) -> Tensor:
        """Prompts or their token ids [P, 77] -> text features [P, D], not normalised."""
        ids = prompts if isinstance(prompts, Tensor) else self.tokenize(prompts)
        parts = [
            self.encode_embeddings(self.embed_tokens(part), part.argmax(dim=-1))
            for part in torch.split(ids, batch_size)
        ]
        return torch.cat(parts)

    def encode_embeddings(
        self,
        embeddings: Tensor,
        ends: Tensor,
        deep_tokens: Sequence[Tensor] = (),
        shared: int = 0,
    ) -> Tensor:
        """Encode prompts given as embeddings; gradients flow to them and to the deep tokens.

        Positions behind the last end-of-text token are cut off, which changes nothing: the
        attention is causal.

        Args:
            embeddings: [P, T, W] without positional embedding.
            ends: [P] position of the end-of-text token.
            deep_tokens: set i, [n, W], overwrites positions 1..n before block i + 1 (0-based
                block number i + 1; the first block sees `embeddings`). AnomalyCLIP's
                "compound prompts".
            shared: the prompts are alike in their first `shared` positions, deep tokens included,
                and these are computed once, from the first prompt; all prompts end behind them.

        Returns:
            [P, D] text features, not normalised.
        """
        length = int(ends.max()) + 1
        self.counter.prompts += len(embeddings)
        with self._autocast():
            x = embeddings[:, :length] + self.text.positional_embedding[:length]
            if shared:
                x = self._continue_prompts(x[:1, :shared], x[:, shared:], deep_tokens)
            else:
                for number, block in enumerate(self.text.transformer.resblocks):
                    x = _with_deep_tokens(x, number, deep_tokens)
                    x = self._feed_forward(block, x + self._attend(block, x, causal=True)[0])
            rows = torch.arange(len(x), device=x.device)
            last = self.text.ln_final(x[rows, ends - shared])
            projection = self.text.text_projection
            features = projection(last) if isinstance(projection, nn.Module) else last @ projection
        result: Tensor = features.to(self.dtype)
        return result

    def _continue_prompts(
        self, beginning: Tensor, x: Tensor, deep_tokens: Sequence[Tensor]
    ) -> Tensor:
        """Prompts that continue one beginning [1, T', W]: their own positions [P, T, W], encoded.

        The attention is causal, so the beginning does not see what follows, and gives every prompt
        the same keys and values.
        """
        before, length = beginning.shape[1], x.shape[1]
        seen = torch.ones(length, before + length, dtype=torch.bool, device=x.device)
        seen = seen.tril(diagonal=before)
        for number, block in enumerate(self.text.transformer.resblocks):
            beginning = _with_deep_tokens(beginning, number, deep_tokens)
            query, key, value = self._heads(block, beginning)
            own_query, own_key, own_value = self._heads(block, x)
            keys, values = (
                torch.cat([first.expand(len(x), -1, -1, -1), own], dim=2)
                for first, own in ((key, own_key), (value, own_value))
            )
            own = F.scaled_dot_product_attention(own_query, keys, values, attn_mask=seen)
            x = self._feed_forward(block, x + self._merged(block, own))
            heads = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            beginning = self._feed_forward(block, beginning + self._merged(block, heads))
        return x

    # -- one block ----------------------------------------------------------------------------

    def _attend(
        self, block: Any, x: Tensor, with_value: bool = False, causal: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The residual of ordinary attention and, if asked for, of V-V attention, both [B, L, D].

        Of either tower; in the text tower B are prompts and L their positions.

        V-V attention takes the values for queries and keys too and shares the value and
        output projections (AnomalyCLIP's DPAM, from CLIP-Surgery).
        """
        query, key, value = self._heads(block, x)
        heads = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        ordinary = self._merged(block, heads)
        if not with_value:
            return ordinary, None
        return ordinary, self._merged(block, F.scaled_dot_product_attention(value, value, value))

    def _heads(self, block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens [B, L, D], each [B, heads, L, D / heads]."""
        attention = block.attn
        packed = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
        packed = packed.reshape(*x.shape[:2], 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = packed.unbind(0)
        return query, key, value

    def _merged(self, block: Any, heads: Tensor) -> Tensor:
        """The residual [B, L, D] of what the heads [B, heads, L, D / heads] attended to."""
        residual: Tensor = block.ls_1(block.attn.out_proj(heads.transpose(1, 2).flatten(2)))
        return residual

    def _feed_forward(self, block: Any, x: Tensor) -> Tensor:
        """X + MLP(ln_2(x)), with this view's activation."""
        hidden = block.mlp.c_fc(block.ln_2(x))
        if self._activation == "quick_gelu":
            hidden = hidden * torch.sigmoid(1.702 * hidden)
        else:
            hidden = F.gelu(hidden)
        result: Tensor = x + block.ls_2(block.mlp.c_proj(hidden))
        return result


def _with_deep_tokens(x: Tensor, number: int, deep_tokens: Sequence[Tensor]) -> Tensor:
    """What block `number` (from 0) sees of [P, T, W]: positions 1..n overwritten by its set."""
    if not 1 <= number <= len(deep_tokens):
        return x
    deep = deep_tokens[number - 1].to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :1], deep, x[:, 1 + deep.shape[1] :]], dim=1)


OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
