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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from .arithmetic import single_precision
from .backbone_spec import PRECISIONS, Activation, BackboneSpec, PosEmbed, Precision
from .blocks import Attention, BlockHook
from .compiled_block import CompiledBlock
from .errors import UsageError
from .text_forward import NO_HOOKS, TextForward, TextHooks
from .visual_forward import TokenSpec, VisualFeatures, VisualForward, resized_positions
from .window_forward import WindowForward

__all__ = [
    "Activation",
    "Attention",
    "Backbone",
    "BackboneSpec",
    "BlockHook",
    "ForwardCounter",
    "PosEmbed",
    "TextHooks",
    "TokenSpec",
    "VisualFeatures",
]

SMALL = 128  # width of both towers up to which a step waits for calls, not for products
TOKENS_AT_ONCE = 1 << 11  # of images or windows of a method's own: what stays in a CPU's cache
TOKENS_ON_DEVICE = 1 << 16  # likewise; bounds the memory


@dataclass
class ForwardCounter:
    """How many images and prompts went through the towers; views of a backbone share one."""

    images: int = 0
    windows: int = 0
    prompts: int = 0


@dataclass
class Backbone:
    """A frozen CLIP: images and text in, features in one joint space out.

    Built by `load_backbone`. `view` gives the same weights run with another activation or another
    positional interpolation; the weights themselves are never changed.

    Attributes:
        model: the open_clip model, frozen, in eval mode, on `device`.
        name: as asked for ("ViT-L-14-336:openai", "tiny").
        weights_sha256: identity of the weights.
        compiled: what `encode_image` runs in the place of a block, see `with_compiled_blocks`.
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
    compiled: CompiledBlock | None = None

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
        """What a run trains methods in: double precision if small or asked, else single.

        What another processor computes differs in the last bit, and training makes that grow to
        the second digit of a metric. In double precision it stays out of sight, and where the
        towers are small it costs little. Lower precisions are of the evaluation alone: rounded
        features move a trained method's means by points.
        """
        return "fp64" if self.small or self.precision == "fp64" else "fp32"

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

    def with_compiled_blocks(self) -> Backbone:
        """A copy whose `encode_image` runs compiled blocks, or itself where they do not compile.

        Two images are encoded to see that; a warning says why it cannot be.
        """
        other = copy.copy(self)
        other.counter, other.compiled = ForwardCounter(), CompiledBlock()
        size = self.native_size
        other.encode_image(torch.zeros(2, 3, size, size, device=self.device))
        other.counter = self.counter
        return self if other.compiled.failure else other

    def forward_key(self, image_size: int) -> tuple[str, str, str, int, str]:
        """Two views with equal keys compute equal features, so one forward serves both."""
        resized = "native" if image_size == self.native_size else self.pos_embed
        how = f"{self.precision} compiled" if self.compiled else str(self.precision)
        return (self.weights_sha256, self._activation, resized, image_size, how)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and of all that the towers give; lower precisions are autocast."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    @property
    def _activation(self) -> str:
        return self.own_activation if self.activation == "own" else self.activation

    def _reduced(self) -> AbstractContextManager[Any]:
        """How the visual tower computes: autocast, or a GPU's products and convolutions as asked.

        The text tower is never reduced: all images are compared to what it gives.
        """
        if self.precision in ("fp16", "bf16"):
            return torch.autocast(self.device.type, dtype=PRECISIONS[self.precision])
        if self.device.type == "cuda":
            return single_precision(tf32=self.precision == "tf32")
        return nullcontext()

    @contextmanager
    def _exactly(self) -> Iterator[None]:
        """Single precision, or double: for prompts, patch embeddings and projections.

        They cost little and decide much.
        """
        reduced, kind = self.precision in ("fp16", "bf16"), self.device.type
        with (
            torch.autocast(kind, enabled=False) if reduced else nullcontext(),
            single_precision() if kind == "cuda" else nullcontext(),
        ):
            yield

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
        forward = VisualForward(self.visual.transformer.resblocks, self._activation)
        if self.compiled is not None:
            forward = replace(forward, encode_block=self.compiled)
        return self._run_visual(forward, images, wanted)

    def forward_image(
        self,
        images: Tensor,
        specs: Iterable[TokenSpec] = (),
        before: BlockHook | None = None,
        after: BlockHook | None = None,
        attention: Attention = "own",
        attention_from: int = 1,
        checkpointing: bool = False,
    ) -> VisualFeatures:
        """`encode_image` with gradients, for methods that change the tokens inside the tower.

        Callbacks get (block number from 1, tokens [B, T, W]) and give tokens: the class token
        first, the patches after it, and then what callbacks inserted. Of the tokens asked for,
        patches and class token are those that `after` gave.

        Args:
            images: see `encode_image`.
            specs: see `encode_image`.
            before: changes what enters each block, the first one after ln_pre.
            after: changes what leaves each block.
            attention: in the blocks from `attention_from` on: "own" is CLIP's; "value" takes the
                values for queries and keys too; "value_batch" does so among the images of the batch
                at each position, so that an answer depends on its batch. The MLPs stay.
            attention_from: a block, counted from 1.
            checkpointing: keep only what enters the blocks for the gradient, and compute the rest
                again: less memory, a third more time.

        Raises:
            UsageError: as `encode_image`; there is no such attention or no such block; or a V-V
                path is asked for where callbacks insert or drop tokens.
        """
        wanted = frozenset(specs)
        self.check_specs(wanted)
        self._check_attention(attention, attention_from)
        forward = VisualForward(
            self.visual.transformer.resblocks,
            self._activation,
            before,
            after,
            attention,
            attention_from,
            checkpointing,
        )
        return self._run_visual(forward, images, wanted)

    def _run_visual(
        self, forward: VisualForward, images: Tensor, wanted: frozenset[TokenSpec]
    ) -> VisualFeatures:
        """What `forward_image` gives, by a forward whose arguments are checked."""
        with self._reduced():
            embedded = self._embed_images(images.to(self.dtype))  # [B, 1 + L, D]
            side = images.shape[-1] // self.patch_size
            self.counter.images += len(images)
            inner = frozenset(spec for spec in wanted if spec.layer > 0)
            class_token, kept = forward.run(self.visual.ln_pre(embedded), inner)
            for spec in wanted - inner:
                kept[spec] = embedded[:, :1] if spec.class_token else embedded[:, 1:]
        with self._exactly():
            plain = class_token.to(self.dtype) @ self.visual.proj
        return VisualFeatures(
            self.project(class_token),
            plain,
            {s: t.to(self.dtype) for s, t in kept.items()},
            (side, side),
        )

    def project(self, tokens: Tensor) -> Tensor:
        """Patch tokens [..., D] into the joint space [..., D]: ln_post, then the projection.

        Gradients flow to the tokens.
        """
        with self._exactly():
            projected: Tensor = self.visual.ln_post(tokens.to(self.dtype)) @ self.visual.proj
        return projected

    def normalise_tokens(self, tokens: Tensor) -> Tensor:
        """Patch tokens [..., D] through ln_post alone, for a projection of the method's own.

        Gradients flow to the tokens.
        """
        with self._exactly():
            normalised: Tensor = self.visual.ln_post(tokens.to(self.dtype))
        return normalised

    @torch.no_grad()
    def class_tokens(self, images: Tensor) -> Tensor:
        """[B, D] class tokens through ln_post and the projection, for images of a method's own.

        Those of `encode_image` but for the last bits: the last block computes nothing else, and a
        large batch is cut where that is faster.

        Args:
            images: [B, 3, S, S] normalised, S a multiple of the patch size.

        Raises:
            UsageError: as `encode_image`.
        """
        forward = VisualForward(self.visual.transformer.resblocks, self._activation)
        self.counter.images += len(images)
        at_once = self._at_once(1 + (images.shape[-1] // self.patch_size) ** 2)
        parts = []
        with self._reduced():
            for part in torch.split(images, at_once):
                x = self.visual.ln_pre(self._embed_images(part.to(self.dtype)))
                parts.append(self.project(forward.class_token(x)))
        return torch.cat(parts)

    @torch.no_grad()
    def encode_windows(self, patch_embeddings: Tensor, scales: Sequence[Tensor]) -> list[Tensor]:
        """Encode windows of patches as short sequences of their own (WinCLIP).

        Every window is the class token and its patch embeddings, sent through ln_pre and the whole
        tower; patches outside are dropped, not masked. Windows of all scales go together, without
        padding.

        Args:
            patch_embeddings: [B, L, W] the tokens `TokenSpec(0)`.
            scales: of each the patch indices of its windows, [windows, patches of a window].

        Returns:
            Of each scale [B, windows, D] class tokens through ln_post and the projection.
        """
        batch = len(patch_embeddings)
        first = self.visual.class_embedding + self.visual.positional_embedding[0]
        first = first.to(patch_embeddings.dtype).expand(batch, 1, -1)
        forward = WindowForward(self.visual.transformer.resblocks, self._activation)
        self.counter.windows += batch * sum(len(windows) for windows in scales)
        with self._reduced():
            x = self.visual.ln_pre(torch.cat([first, patch_embeddings], dim=1))
            parts = forward.run(x, scales, self._at_once(1))
            encoded: list[Any] = [self.project(x) for x in parts]
        return [tokens.unflatten(0, (batch, -1)) for tokens in encoded]

    def _at_once(self, tokens: int) -> int:
        """How many sequences of so many tokens go through the visual tower together."""
        many = TOKENS_AT_ONCE if self.device.type == "cpu" else TOKENS_ON_DEVICE
        return max(1, many // tokens)

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

    def _check_attention(self, attention: Attention, start: int) -> None:
        if attention not in get_args(Attention):
            raise UsageError(
                f"attention '{attention}' is unknown: take {', '.join(get_args(Attention))}"
            )
        if not 1 <= start <= self.depth:
            raise UsageError(
                f"attention from block {start} on does not exist in backbone '{self.name}' of "
                f"{self.depth} blocks"
            )

    def _embed_images(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, 1 + L, D]: class token and patches with positions, before ln_pre."""
        size = images.shape[-1]
        if images.shape[-2] != size or size % self.patch_size:
            raise UsageError(
                f"images of {tuple(images.shape[-2:])} px do not fit backbone '{self.name}': give "
                f"squares whose side is a multiple of {self.patch_size}"
            )
        if self.device.type == "cuda":  # whose kernels read channels last
            images = images.contiguous(memory_format=torch.channels_last)
        with self._exactly():
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
            return resized_positions(own, side, self.pos_embed, self.dtype)

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
        groups: int = 1,
        positioned: bool = False,
        hooks: TextHooks = NO_HOOKS,
        begun: list[Tensor] | None = None,
    ) -> Tensor:
        """Encode prompts given as embeddings; gradients flow to them and to all that is learned.

        Positions after the last end-of-text token are cut off, which changes nothing: the
        attention is causal.

        Args:
            embeddings: [P, T, W] without positional embedding.
            ends: [P] position of the end-of-text token.
            deep_tokens: set i, [n, W] or for each prompt its own [P, n, W], overwrites positions
                1..n before block i + 1 (0-based block number i + 1; the first block sees
                `embeddings`). AnomalyCLIP's "compound prompts".
            shared: the prompts of a group are alike in their first `shared` positions, deep tokens
                included, and these are computed once, from its first prompt; all prompts end after
                them.
            groups: how many groups of equal size the prompts come in.
            positioned: the embeddings carry their positions already, for tokens that have none.
            hooks: what a method changes inside the tower.
            begun: an empty list keeps what the tower made of the `shared` positions; a list that
                another call filled is read, for prompts with the same beginnings.

        Returns:
            [P, D] text features, not normalised.

        Raises:
            UsageError: callbacks around blocks together with `shared` positions.
        """
        if shared and hooks.in_blocks:
            raise UsageError(
                "callbacks around text blocks see whole prompts, and `shared` positions are "
                "computed apart from them: leave `shared` at 0"
            )
        length = int(ends.max()) + 1
        self.counter.prompts += len(embeddings)
        blocks = self.text.transformer.resblocks
        forward = TextForward(blocks, self._activation, deep_tokens, hooks)
        with self._exactly():
            x = embeddings[:, :length]
            if not positioned:
                x = x + self.text.positional_embedding[:length]
            if shared:
                beginnings = x[:: len(x) // groups, :shared]
                last = forward.continue_prompts(beginnings, x[:, shared:], ends - shared, begun)
            else:
                last = forward.run(x, ends)
            features = self._text_features(last, hooks)
        return features.to(self.dtype)

    def _text_features(self, last: Tensor, hooks: TextHooks) -> Tensor:
        """Features [P, D] of the end-of-text tokens [P, W] that left the last block."""
        if hooks.before_final is not None:
            last = hooks.before_final(last)
        head = self._text_head if hooks.head is None else hooks.head
        return head(self.text.ln_final(last))

    def _text_head(self, last: Tensor) -> Tensor:
        """Features [P, D] of what left ln_final [P, W], by the weights' own projection."""
        projection = self.text.text_projection
        features: Tensor = (
            projection(last) if isinstance(projection, nn.Module) else last @ projection
        )
        return features


OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
