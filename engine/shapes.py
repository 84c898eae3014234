"""The named axes of every tensor that passes between the engine's modules.

image, batch: pictures. layer: 0..L, see `engine.lens`. patch: image tokens, row by row from the top left
(SigLIP has no CLS); row, col: the same on their grid. width: the model's hidden size, also that of text and
pooled embeddings. head: of the pooling attention. kept: the labels of an image whose scores are handed out.
patch_layer: the layers of a patch lens, by choice others than those of the pooled one. activation_layer,
token: those whose hidden states are handed out.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

PixelBatch = UInt8[Tensor, "batch 3 side side"]
PixelValues = Float[Tensor, "batch 3 side side"]
PixelTable = Float[Tensor, "3 256"]
Hidden = Float[Tensor, "batch patch width"]
Pooled = Float[Tensor, "batch width"]
PatchEmbeddings = Float[Tensor, "batch patch width"]
TokenVectors = Float[Tensor, "batch patch width"]
ProbeAttention = Float[Tensor, "batch head patch"]
MixedTokens = Float[Tensor, "batch head width"]
TokenLengths = Float[Tensor, "batch patch"]
Directions = Float[Tensor, "#batch kept width"]
HeadDirections = Float[Tensor, "#batch kept head width"]
LabelOffsets = Float[Tensor, "#batch kept"]
LayerEmbeddings = Float[Tensor, "image layer width"]
Vectors = Float[Tensor, "*rows width"]
TokenIds = Int[Tensor, "text position"]
TextEmbeddings = Float[Tensor, "text width"]
LayerScores = Float[np.ndarray, "image layer label"]
PatchScores = Float[np.ndarray, "image patch_layer kept row col"]
AttentionMaps = Float[np.ndarray, "image patch_layer head row col"]
NormMaps = Float[np.ndarray, "image patch_layer row col"]
LabelParts = Float[np.ndarray, "image patch_layer kept"]
LayerVectors = Float[np.ndarray, "image layer width"]
TokenStates = Float[np.ndarray, "image activation_layer token width"]
LabelRanks = Int[np.ndarray, "image layer kept"]
FinalScores = Float[np.ndarray, "image label"]
LabelVectors = Float[np.ndarray, "label width"]
TextVector = Float[np.ndarray, " width"]
ImageVectors = Float[np.ndarray, "image width"]
KeptLabels = Int[np.ndarray, "image kept"]
TopLabels = Int[np.ndarray, "image layer"]
ImageNumbers = Float[np.ndarray, " image"]
ImageLabels = Int[np.ndarray, " image"]
ImageLayers = Int[np.ndarray, " image"]
ImageFlags = Bool[np.ndarray, " image"]
LabelFlags = Bool[np.ndarray, " label"]
