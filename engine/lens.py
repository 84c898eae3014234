"""The logit lens: what the checkpoint's own head reads at each layer, scored against labels.

Layer l in 0..L is hidden_states[l]: 0 is patch plus position embedding, l is after block l, L is before
the final norm. The pooled lens of layer l is e_l = head(post_layernorm(hidden_states[l])), the head as
trained for layer L; its score for a label is the cosine of e_l with the label's text embedding (Zhai et al.
2023, "Sigmoid Loss for Language Image Pre-Training", for the score; nostalgebraist 2020 for the lens). Low
scores do not show that a layer lacks the information, and no lens is causal evidence.

The patch lens reads each token of a layer alone through the same head. That is exact arithmetic on an input
the head was not trained for (it saw all tokens at once), so a map does not sum to the pooled score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.labels import Prompts, is_fitted
from engine.plan import MAX_SCORED_LABELS, TOP_LABELS, LensPlan
from engine.scores import logits, rank_labels, sigmoid, softmax
from engine.shapes import (
    AttentionMaps,
    FinalScores,
    ImageFlags,
    ImageLabels,
    ImageLayers,
    ImageNumbers,
    ImageVectors,
    KeptLabels,
    LabelFlags,
    LabelParts,
    LabelRanks,
    LabelVectors,
    LayerScores,
    LayerVectors,
    NormMaps,
    PatchScores,
    TokenStates,
    TopLabels,
)
from engine.tokens import TokenMaps, join_maps

MLP_SHARE: Final = 0.3


@dataclass(frozen=True)
class LabelDirections:
    """Labels as unit vectors: computed once a label set, used for every picture.

    `unit` is [label, width] float32 of norm 1. `prompts` are the texts that were embedded, of each label in
    its form: a string that filled the template, a tuple of several, {"positive": tuple, "negative": tuple} of
    a direction, None of a vector. `truncated` tells of which labels a text was cut at 64 tokens. They belong
    to the checkpoint named by `checkpoint_sha256` and to no others.

    The logit and match probability of a lens are fitted for single texts: of an ensemble they are near that,
    of a direction or a vector they mean nothing, and only cosines are to be read.
    """

    names: tuple[str, ...]
    prompts: tuple[Prompts, ...]
    unit: LabelVectors
    truncated: LabelFlags
    checkpoint_sha256: str


@dataclass(frozen=True)
class Scores:
    """What was read of some pictures, a batch or all of them.

    `cosine` [image, layer, label] of the planned layers, `final` [image, label] those of layer L, `pooled`
    [image, width] its embeddings, `embeddings` [image, layer, width] those of the planned layers if asked
    for, `tokens` what was read of each token, `kept` and `head_deviation` as in `Lens`.
    """

    cosine: LayerScores
    final: FinalScores
    pooled: ImageVectors
    kept: KeptLabels
    tokens: TokenMaps
    embeddings: LayerVectors | None
    head_deviation: float | None


@dataclass(frozen=True)
class PatchLens:
    """How well each patch alone matches each kept label.

    - `layers`: the layers that were asked for, ascending; axis 1 of `cosine`.
    - `grid` (rows, cols), from the top left; pixels beyond it were never read.
    - `method`: "head", each token through the whole head; "value", without its MLP, a tenth of the cost and
      for comparing patches only: its zero means nothing.
    - `cosine` [image, layer, label, row, col] float32; label i of an image is `Lens.kept[image, i]`.
    """

    layers: tuple[int, ...]
    grid: tuple[int, int]
    method: str
    cosine: PatchScores


@dataclass(frozen=True)
class TokenMap:
    """A number of each token at each layer that was asked for.

    `layers` and `grid` as in `PatchLens`; `values` [image, layer, row, col], of `probe_attention`
    [image, layer, head, row, col].
    """

    layers: tuple[int, ...]
    grid: tuple[int, int]
    values: AttentionMaps | NormMaps


@dataclass(frozen=True)
class Contribution:
    """What the cosine of a layer's embedding with each kept label is the sum of.

    - `layers`, `grid` as in `PatchLens`.
    - `patches` [image, layer, label, row, col]: each token's share, sum_h a_hn <W_O,h W_V,h z_n, t> / |e|.
    - `bias`, `mlp` [image, layer, label]: those of the biases and of the head's MLP, which are no token's.
    - `mlp_share` [image, layer, label] = |mlp| / (|sum of patches| + |bias| + |mlp|): above MLP_SHARE the map
      tells less than it seems to.
    """

    layers: tuple[int, ...]
    grid: tuple[int, int]
    patches: PatchScores
    bias: LabelParts
    mlp: LabelParts

    @property
    def mlp_share(self) -> LabelParts:
        """How much of the absolute parts is the MLP's."""
        own = np.abs(self.mlp)
        whole = np.abs(self.patches.sum(axis=(3, 4))) + np.abs(self.bias) + own
        # where all parts are 0, so is each one's share
        share: LabelParts = np.divide(own, whole, out=np.zeros_like(own), where=whole != 0)
        return share


@dataclass(frozen=True)
class Activations:
    """The hidden states themselves, before the final norm.

    - `layers`: those that were asked for, ascending. `grid` as in `PatchLens`.
    - `tokens`: of which tokens, ascending, token n being at row n // cols and column n % cols; None: all.
    - `values` [image, layer, token, width] float32: an engine that computes in bfloat16 has them in that
      precision, and here they are widened, which changes nothing.
    """

    layers: tuple[int, ...]
    grid: tuple[int, int]
    tokens: tuple[int, ...] | None
    values: TokenStates


@dataclass(frozen=True)
class Uncalibrated:
    """The numbers of layer L's formulas at every layer of `Lens.layers`: to look at, not to believe.

    exp(logit_scale) and logit_bias were fitted to cosines at layer L; those of the layers below have another
    spread. `logit`, its sigmoid `match_probability`, and its `softmax` across the labels that are texts if
    that was asked for: [image, layer, label] float32.
    """

    logit: LayerScores
    match_probability: LayerScores
    softmax: LayerScores | None


@dataclass(frozen=True, repr=False)
class Lens:
    """A pooled lens over some pictures, and a patch lens when it was asked for.

    - `labels`, `prompts`: name and embedded texts of each label, see `LabelDirections`.
    - `layers`: the layers that were asked for, ascending; axis 1 of `cosine` and `top`.
    - `cosine` [image, layer, label] float32.
    - `final_logit` [image, label] = exp(logit_scale) * cosine at L + logit_bias, and its sigmoid
      `final_match_probability`: at layer L only, where scale and bias were fitted. The probability that this
      pair matches under training's prior, not a confidence.
    - `final_softmax` [image, label]: the softmax of `final_logit` across the labels that are texts, on
      request: shares among those that compete, which are as large when none of them fits. SigLIP was not
      trained for it. NaN of directions and vectors, whose logits mean nothing.
    - `uncalibrated`: logits below layer L, on request; see there.
    - `rank` [image, layer, kept]: the place of each kept label among all at a layer, 1 is the best; of labels
      that tie the lower index comes first, 0 is what is not a number.
    - `top` [image, layer]: index of the best label; a tie goes to the lower index.
    - `final_top` [image]: the same at layer L, whether it was asked for or not.
    - `tied` [image]: whether the best label at L shares its score.
    - `top_margin` [image]: best minus second cosine at L; None with a single label.
    - `settle_layer` [image]: the smallest layer from which the top label equals the final one; L means "only
      at the end". None unless all layers were asked for.
    - `pooled` [image, width] float32: the image embedding e_L, unnormalised.
    - `kept` [image, kept]: indices of the labels whose scores are handed out. All in order up to
      MAX_SCORED_LABELS; of more, each image's TOP_LABELS best at layer L, best first.
    - `patch`: the patch lens of the kept labels, or None.
    - `probe_attention` [image, layer, head, row, col]: how much the head's probe takes of each token; over
      the tokens it sums to 1. Below L it is the final probe reading that layer, no attention the model paid.
    - `token_norms` [image, layer, row, col]: the length of each token's hidden state, before the final norm.
      Some tokens are long in every picture: where maps glow there, that is why.
    - `contribution`, `activations`: see there. `embeddings` [image, layer, width]: e_l of `layers`.
    - `head_deviation`: how far, at layer L, a cosine of the folded head that read the other layers is from
      that of the checkpoint's own head, at most; None where no layer was read, see `rescore`.
    """

    labels: tuple[str, ...]
    prompts: tuple[Prompts, ...]
    layers: tuple[int, ...]
    cosine: LayerScores
    final_logit: FinalScores
    final_match_probability: FinalScores
    final_softmax: FinalScores | None
    uncalibrated: Uncalibrated | None
    rank: LabelRanks
    top: TopLabels
    final_top: ImageLabels
    tied: ImageFlags
    top_margin: ImageNumbers | None
    settle_layer: ImageLayers | None
    pooled: ImageVectors
    kept: KeptLabels
    patch: PatchLens | None
    probe_attention: TokenMap | None
    token_norms: TokenMap | None
    contribution: Contribution | None
    embeddings: LayerVectors | None
    activations: Activations | None
    head_deviation: float | None

    def __repr__(self) -> str:
        """What it holds, in a line: its numbers would fill a notebook."""
        images, layers, labels = self.cosine.shape
        names = ("patch", "probe_attention", "token_norms", "contribution", "embeddings", "activations")
        held = ["pooled", *(name for name in names if getattr(self, name) is not None)]
        sizes = (_count(images, "image"), _count(layers, "layer"), _count(labels, "label"))
        return f"Lens({', '.join(sizes)}: {', '.join(held)})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def keep_labels(final: FinalScores) -> KeptLabels:
    """The labels whose scores are handed out, for each image, from its scores at layer L.

    All of them, in order, up to MAX_SCORED_LABELS; of more the TOP_LABELS best, best first. A tie goes to
    the lower index, and what is not a number comes last.
    """
    images, labels = final.shape
    if labels <= MAX_SCORED_LABELS:
        return np.tile(np.arange(labels, dtype=np.int64), (images, 1))
    return np.argsort(-final, axis=1, kind="stable")[:, :TOP_LABELS].astype(np.int64)


def join(parts: Sequence[Scores]) -> Scores:
    """The scores of several batches of one plan, in their order."""
    layers = [part.embeddings for part in parts if part.embeddings is not None]
    return Scores(
        cosine=np.concatenate([part.cosine for part in parts]),
        final=np.concatenate([part.final for part in parts]),
        pooled=np.concatenate([part.pooled for part in parts]),
        kept=np.concatenate([part.kept for part in parts]),
        tokens=join_maps([part.tokens for part in parts]),
        embeddings=np.concatenate(layers) if layers else None,
        # numpy's, which answers NaN when there is one
        head_deviation=float(np.max([part.head_deviation or 0.0 for part in parts])),
    )


def summarize(
    directions: LabelDirections,
    plan: LensPlan,
    scores: Scores,
    *,
    scale: float,
    bias: float,
    across_labels: bool = False,
    uncalibrated: bool = False,
) -> Lens:
    """Everything a lens says, from its cosines; `scale` is exp(logit_scale).

    `across_labels` asks for the softmax, `uncalibrated` for logits of all layers.
    """
    final, top = scores.final, scores.cosine.argmax(axis=2)
    logit = logits(final, scale, bias)
    lower = logits(scores.cosine, scale, bias) if uncalibrated else None
    # what is no text competes with none
    among = np.array([is_fitted(prompts) for prompts in directions.prompts]) if across_labels else None
    best = final.max(axis=1, keepdims=True)
    ranked = np.sort(final, axis=1)
    return Lens(
        labels=directions.names,
        prompts=directions.prompts,
        layers=plan.layers,
        cosine=scores.cosine,
        final_logit=logit,
        final_match_probability=sigmoid(logit),
        final_softmax=None if among is None else softmax(logit, among),
        uncalibrated=_uncalibrated(lower, among),
        rank=rank_labels(scores.cosine, scores.kept),
        top=top,
        final_top=final.argmax(axis=1),
        tied=(final == best).sum(axis=1) > 1,
        top_margin=ranked[:, -1] - ranked[:, -2] if final.shape[1] > 1 else None,
        settle_layer=settle_layers(top) if len(plan.layers) == plan.depth + 1 else None,
        pooled=scores.pooled,
        kept=scores.kept,
        patch=_patch_lens(plan, scores.tokens.patch),
        probe_attention=_token_map(plan, scores.tokens.probe_attention),
        token_norms=_token_map(plan, scores.tokens.token_norms),
        contribution=_contribution(plan, scores.tokens),
        embeddings=scores.embeddings,
        activations=_activations(plan, scores.tokens.activations),
        head_deviation=scores.head_deviation,
    )


def settle_layers(top: TopLabels) -> ImageLayers:
    """For each image the smallest layer from which the top label is the final one, from `top` over 0..L."""
    differs = top != top[:, -1:]
    # Counted from the end: the first difference there ends the settled stretch.
    settled = np.where(
        differs.any(axis=1), np.argmax(differs[:, ::-1], axis=1), np.full(len(top), top.shape[1])
    )
    return np.asarray(top.shape[1] - settled, dtype=np.int64)


def _patch_lens(plan: LensPlan, cosine: PatchScores | None) -> PatchLens | None:
    if plan.patch_layers is None or cosine is None:
        return None
    return PatchLens(layers=plan.patch_layers, grid=plan.grid, method=plan.patch_method, cosine=cosine)


def _token_map(plan: LensPlan, values: AttentionMaps | NormMaps | None) -> TokenMap | None:
    if plan.patch_layers is None or values is None:
        return None
    return TokenMap(plan.patch_layers, plan.grid, values)


def _contribution(plan: LensPlan, maps: TokenMaps) -> Contribution | None:
    patches, bias, mlp = maps.contribution, maps.contribution_bias, maps.contribution_mlp
    if plan.patch_layers is None or patches is None or bias is None or mlp is None:
        return None
    return Contribution(plan.patch_layers, plan.grid, patches, bias, mlp)


def _activations(plan: LensPlan, values: TokenStates | None) -> Activations | None:
    if plan.activation_layers is None or values is None:
        return None
    return Activations(plan.activation_layers, plan.grid, plan.activation_tokens, values)


def _uncalibrated(logit: LayerScores | None, among: LabelFlags | None) -> Uncalibrated | None:
    if logit is None:
        return None
    return Uncalibrated(logit, sigmoid(logit), None if among is None else softmax(logit, among))
