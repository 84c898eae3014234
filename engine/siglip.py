"""SiglipEngine: one SigLIP checkpoint, its embeddings and its logit lens."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from PIL import Image
from torch import Tensor

from engine.allocator import give_back_large_blocks
from engine.arguments import (
    batches,
    check_choice,
    check_embeddings,
    check_flags,
    check_hidden,
    check_outputs,
    check_pixel_values,
    choose_device,
    device_name,
    memory_errors,
)
from engine.catalog import DEFAULT_MODEL, DEFAULT_TEMPLATE, Catalog
from engine.config import EngineConfig, read_config
from engine.directions import TextStore, TextTower, embed_directions
from engine.errors import InvalidArgumentError
from engine.feed import Handed, feed
from engine.folded import FoldedHead
from engine.labels import AnyLabel, check_template, read_labels
from engine.layers import LayerChoice, TokenChoice, resolve_layers, resolve_tokens
from engine.lens import LabelDirections, Lens, join, summarize
from engine.loading import choose, load
from engine.plan import TOKEN_OUTPUTS, LensPlan
from engine.preprocess import normalize, read_pixel_path
from engine.readout import most_images, read_batch, score_embeddings
from engine.residual import check_last_layer, read_head, run_stock
from engine.runtimes.choice import RUNTIMES, choose_runtime, start_runtime
from engine.sizes import check_activations
from engine.text import encode, tokenize

DTYPES: Final = ("float32", "bfloat16")
IMAGE_BATCH: Final = 16


class SiglipEngine:
    """A checkpoint ready to answer; tensors come back on the CPU, in float32.

    `dtype` is that of the products in the vision tower's blocks. Weights are loaded in float32 and everything
    else is computed in it: patch embedding, norms, residual stream, the head, texts, scores.

    Raises, from the constructor:
        CatalogError: a name that is refused before anything is loaded.
        ModelLoadFailedError: the checkpoint's files are missing, torn or incomplete.
        InvalidArgumentError: an unknown device, dtype or runtime.
    """

    def __init__(
        self,
        model_name: str | Path = DEFAULT_MODEL,
        device: str | None = None,
        dtype: str = "float32",
        runtime: str = "auto",
        revision: str | None = None,
        *,
        catalog: Catalog | None = None,
    ) -> None:
        """Load `model_name`, a name of the catalog or a local folder, onto `device`, to run in `dtype`.

        `device` None takes CUDA when there is one. `runtime` "auto" takes the fastest for the device:
        "compiled" on CUDA, "openvino" on a CPU; "torch" is the reference. One that computes something else
        than the reference is replaced by it, with a RuntimeFallbackWarning. `revision` is the hub commit, tag
        or branch.
        """
        check_choice("runtime", runtime, RUNTIMES)
        check_choice("dtype", dtype, DTYPES)
        give_back_large_blocks()
        self.device = choose_device(device)
        self.dtype = dtype
        chosen = choose_runtime(runtime, self.device)
        with memory_errors():
            loaded = load(choose(model_name, catalog or Catalog(), revision), self.device)
        self.model: Any = loaded.model
        self.processor: Any = loaded.processor
        self.config: EngineConfig = read_config(loaded.model)
        self._vision = loaded.model.vision_model
        self._pixels = read_pixel_path(loaded.processor.image_processor, self.config.img_size)
        self._checkpoint_sha256 = loaded.checkpoint_sha256
        with memory_errors():
            self._folded = FoldedHead(self._vision)
            ramp = self._ramp().to(self.device)
            stock = run_stock(self._vision, ramp)
            started = start_runtime(chosen, self._vision, dtype, self._folded, ramp, stock)
        self._runtime = started.runtime
        self.runtime = started.runtime.name
        self.provenance: dict[str, Any] = {
            "model": loaded.name,
            "revision": loaded.revision,
            "weights_sha256": loaded.weights_sha256,
            "layers": self.config.layers,
            "grid": list(self.config.grid),
            "dtype": dtype,
            "runtime": self.runtime,
            "runtime_drift": started.drift,
            "runtime_fallback": started.fallback,
            "device": str(self.device),
            "device_name": device_name(self.device),
            "attention": loaded.model.config._attn_implementation,  # noqa: SLF001 - its only name
            # of every runtime's head and texts, and of the blocks of those in torch
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            **started.runtime.describe(),
            "pixel_path": self._pixels.describe(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "logit_scale": self.config.logit_scale,
            "logit_bias": self.config.logit_bias,
            "last_layer_self_check": check_last_layer(self._vision, stock),
        }

    def normalize(self, image: object) -> Tensor:
        """Pixel values [batch, 3, img, img] float32 of a PIL image, a list of them, or a tensor [3, H, W].

        Raises:
            InvalidArgumentError: anything that is no picture, see `engine.preprocess.normalize`.
        """
        return normalize(self._pixels, image)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """One pass over pixel values [batch, 3, img, img].

        Returns pooled [batch, width], unnormalised, and {"hidden_states": list of L+1 tensors
        [batch, patch, width], before the final norm; "token_embeddings": the last of them}.

        Raises:
            InvalidArgumentError: another shape, integers, NaN or infinity.
        """
        checked = check_pixel_values(pixel_values, self.config.img_size)
        parts = []
        for part in torch.split(checked, self._runtime.most_images or len(checked)):
            with memory_errors():
                # copied, since the runtime writes the next batch into the same memory
                parts.append([state.to("cpu", copy=True) for state in self._runtime.stream(part)])
        hidden = [torch.cat(states) for states in zip(*parts, strict=True)]
        return self.logit_lens(hidden[-1]), {"hidden_states": hidden, "token_embeddings": hidden[-1]}

    def logit_lens(self, hidden: Tensor) -> Tensor:
        """What the final head reads in a hidden state of any layer: [batch, patch, width] -> [batch, width].

        [patch, width] gives [width]. Takes the residual stream as `forward` returns it: the library's
        `last_hidden_state` is already normed and must not be passed.

        Raises:
            InvalidArgumentError: another shape or integers.
        """
        batch, batched = check_hidden(hidden, self.config.hidden_size)
        with memory_errors():
            pooled = read_head(self._vision, batch.to(self.device, torch.float32)).cpu()
        return pooled if batched else pooled[0]

    def embed_text(self, texts: str | Sequence[str]) -> Tensor:
        """Text embeddings [batch, width], unnormalised, of one text or several; no template is applied.

        Raises:
            InvalidArgumentError: not a string or a list of strings.
        """
        many = [texts] if isinstance(texts, str) else texts
        if not isinstance(many, Sequence) or not all(isinstance(text, str) for text in many):
            raise InvalidArgumentError("texts", "expected a string or a list of strings")
        if not many:
            return torch.empty((0, self.config.hidden_size))
        return torch.cat(list(self._encode_text(tokenize(self.processor.tokenizer, many)[0])))

    def embed_images(self, images: Iterable[Any], batch_size: int = IMAGE_BATCH) -> Tensor:
        """Image embeddings [n, width], unnormalised; memory does not grow with the number of images.

        `images` is any iterable, a generator too; each is read when its batch is due.

        Raises:
            InvalidArgumentError: see `normalize`.
        """
        rows = [torch.empty((0, self.config.hidden_size))]
        for pixel_values in self._feed(batches(images, batch_size, self._runtime.most_images)):
            with memory_errors():
                (last,) = deque(self._stream(pixel_values), maxlen=1)
                rows.append(read_head(self._vision, last).cpu())
        return torch.cat(rows)

    def embed_labels(
        self,
        labels: Sequence[AnyLabel],
        template: str = DEFAULT_TEMPLATE,
        *,
        step: Callable[[], None] | None = None,
        store: TextStore | None = None,
    ) -> LabelDirections:
        """Labels as unit vectors, for any number of `lens` calls; `step` is called before each pass.

        A label is a string, which fills the template, an `engine.labels.Label`, or a mapping of its fields.
        What `store` has is not embedded again, and what it has not is given to it.

        Raises:
            LabelsMissingError: no label, or a blank text.
            LabelsIndistinctError: two labels of one name, or with equal token ids.
            InvalidArgumentError: labels of another form or width, or a template without its one `{}`.
        """
        tower = self._text_tower(step)
        return embed_directions(read_labels(labels), check_template(template), tower, store)

    def text_keys(self, texts: Sequence[str]) -> list[bytes]:
        """A key of each text, without a pass: equal only where its tokens are, and what embeds them."""
        ids, _ = tokenize(self.processor.tokenizer, texts)
        return self._text_tower().keys(ids)

    def lens(
        self,
        images: Iterable[Any],
        labels: Sequence[AnyLabel] | LabelDirections,
        outputs: Sequence[str] = ("pooled",),
        layers: LayerChoice = "all",
        patch_layers: LayerChoice | None = None,
        patch_method: str = "head",
        *,
        activation_layers: LayerChoice | None = None,
        activation_tokens: TokenChoice | None = None,
        softmax: bool = False,
        uncalibrated: bool = False,
        template: str = DEFAULT_TEMPLATE,
        batch_size: int = IMAGE_BATCH,
    ) -> Lens:
        """The pooled lens of pictures against labels, and whatever else `outputs` names, see `engine.plan`.

        Shapes are in `engine.lens.Lens`. `patch_layers`, at which tokens are read, None is the last layer:
        maps of all of them by the whole head cost most of another forward pass. `activation_layers` None is
        the last layer too, `activation_tokens` None or "all" are all tokens. `softmax` asks for shares across
        the labels that are texts, `uncalibrated` for logits below layer L. `template` is not used when
        `labels` are directions already. Scores are float32 in every dtype.

        Layers are read as the pass goes by, so that memory holds one hidden state of one batch, and its patch
        embeddings within `engine.readout.PATCH_BYTES`, on a GPU CUDA_PATCH_BYTES: for them a batch may be
        smaller than `batch_size`. What is handed out grows with the pictures, hidden states up to
        `engine.sizes.ACTIVATION_BYTES`.

        Raises:
            LabelError: see `embed_labels`.
            LensUnsoundError: a batch on which the folded head and the checkpoint's own disagree.
            OutputTooLargeError: more activations than one call hands out.
            InvalidArgumentError: an output this version lacks, a layer outside 0..L, no picture.
        """
        check_outputs(outputs, patch_layers, patch_method, activation_layers, activation_tokens)
        check_flags(softmax=softmax, uncalibrated=uncalibrated)
        plan = self._plan(outputs, layers, patch_layers, patch_method, activation_layers, activation_tokens)
        width, taken = self.config.hidden_size, 0
        check_activations(plan, width, len(images) if isinstance(images, Sized) else 1)
        directions = self._directions(labels, template)
        with memory_errors():
            unit = torch.from_numpy(directions.unit).to(self.device)
        parts = []
        most = (most_images(plan, width, self.device.type), self._runtime.most_images)
        for pixel_values in self._feed(batches(images, batch_size, *most)):
            taken += len(pixel_values)
            check_activations(plan, width, taken)
            with memory_errors():
                states = self._stream(pixel_values)
                parts.append(read_batch(self._vision, self._folded, states, unit, plan))
        if not parts:
            raise InvalidArgumentError("images", "give at least one picture")
        config = self.config
        return summarize(
            directions,
            plan,
            join(parts),
            scale=config.logit_scale,
            bias=config.logit_bias,
            across_labels=softmax,
            uncalibrated=uncalibrated,
        )

    def rescore(
        self,
        embeddings: object,
        labels: Sequence[AnyLabel] | LabelDirections,
        layers: LayerChoice = "all",
        *,
        softmax: bool = False,
        uncalibrated: bool = False,
        template: str = DEFAULT_TEMPLATE,
    ) -> Lens:
        """The pooled lens of layer embeddings that were kept, against other labels: no picture, no pass.

        `embeddings` [image, layer, width] are those of `Lens.embeddings`, `layers` the same that were chosen
        for it; L must be among them, which says what is on top.

        Raises:
            LabelError: see `embed_labels`.
            InvalidArgumentError: another shape, numbers that are not finite, layers without the last.
        """
        check_flags(softmax=softmax, uncalibrated=uncalibrated)
        plan = self._plan(("pooled",), layers)
        if plan.depth not in plan.layers:
            raise InvalidArgumentError("layers", f"must hold the last, {plan.depth}: it says what is on top")
        checked = check_embeddings(embeddings, len(plan.layers), self.config.hidden_size)
        directions = self._directions(labels, template)
        scores = score_embeddings(checked, torch.from_numpy(directions.unit))
        config = self.config
        return summarize(
            directions,
            plan,
            scores,
            scale=config.logit_scale,
            bias=config.logit_bias,
            across_labels=softmax,
            uncalibrated=uncalibrated,
        )

    def _plan(
        self,
        outputs: Sequence[str],
        layers: LayerChoice,
        patch_layers: LayerChoice | None = None,
        patch_method: str = "head",
        activation_layers: LayerChoice | None = None,
        activation_tokens: TokenChoice | None = None,
    ) -> LensPlan:
        depth, (rows, cols) = self.config.layers, self.config.grid
        # the last layer unless told
        wanted = resolve_layers([depth] if patch_layers is None else patch_layers, depth, "patch_layers")
        kept = [depth] if activation_layers is None else activation_layers
        states = resolve_layers(kept, depth, "activation_layers")
        tokens = resolve_tokens("all" if activation_tokens is None else activation_tokens, rows * cols)
        return LensPlan(
            depth=depth,
            grid=self.config.grid,
            layers=resolve_layers(layers, depth),
            patch_layers=wanted if set(outputs) & set(TOKEN_OUTPUTS) else None,
            patch_method=patch_method,
            outputs=frozenset(outputs) | {"pooled"},
            activation_layers=states if "activations" in outputs else None,
            activation_tokens=tokens,
        )

    def _feed(self, parts: Iterable[Sequence[Any]]) -> Iterator[Tensor]:
        """Pixel values of each batch: on a GPU looked up there, one batch ahead.

        Raises:
            OutOfMemoryError: the device had no room for a batch's pixels.
            InvalidArgumentError: a picture that is none; `path` is its place among all.
        """
        handed = Handed(parts)
        if self.device.type == "cuda":
            return _guarded(feed(self._pixels, self._pixels.table.to(self.device), handed), handed)
        return _guarded(map(self.normalize, handed), handed)

    def _stream(self, pixel_values: Tensor) -> Iterator[Tensor]:
        return self._runtime.stream(check_pixel_values(pixel_values, self.config.img_size))

    def _encode_text(self, ids: Tensor, step: Callable[[], None] | None = None) -> Iterator[Tensor]:
        return encode(self.model.text_model, ids, self.device, step)

    def _text_tower(self, step: Callable[[], None] | None = None) -> TextTower:
        return TextTower(
            tokenizer=self.processor.tokenizer,
            encode=partial(self._encode_text, step=step),
            width=self.config.hidden_size,
            checkpoint_sha256=self._checkpoint_sha256,
            runtime=self.runtime,
            dtype=self.dtype,
            float32_precision=torch.get_float32_matmul_precision(),
            device=self.device.type,
        )

    def _directions(self, labels: Sequence[AnyLabel] | LabelDirections, template: str) -> LabelDirections:
        if not isinstance(labels, LabelDirections):
            return self.embed_labels(labels, template)
        if labels.checkpoint_sha256 != self._checkpoint_sha256:
            raise InvalidArgumentError("labels", "these directions were made by another checkpoint")
        return labels

    def _ramp(self) -> Tensor:
        """Pixel values of a picture that has every brightness in every channel, for checks at start-up."""
        return self.normalize(
            Image.merge("RGB", [Image.linear_gradient("L").rotate(turn) for turn in (0, 90, 180)])
        )


def _guarded(parts: Iterator[Tensor], handed: Handed) -> Iterator[Tensor]:
    while True:
        try:
            with memory_errors():
                part = next(parts, None)
        except InvalidArgumentError as fault:
            raise handed.locate(fault) from fault
        if part is None:
            return
        yield part
