"""The named axes of what passes between the recipe's modules.

scene: pictures of a batch. thing: what a scene shows, padded to the most there can be. patch: image tokens,
row by row from the top left. window: squares of patches. view: the whole picture, then its windows. text:
captions, or labels. row: whatever was embedded.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

ScenePixels = UInt8[np.ndarray, "scene side side 3"]
ThingPairs = Int[np.ndarray, "scene thing 2"]
ThingFlags = Bool[np.ndarray, "scene window thing"]
Matches = Bool[np.ndarray, "scene window text"]
Labels = Float[np.ndarray, "scene view text"]
WindowPatches = Bool[np.ndarray, "scene window patch"]
Window = Bool[np.ndarray, "row column"]
Numbers = Float[np.ndarray, " patch"]
ThingCover = Float[np.ndarray, "thing patch"]
PatchFlags = Bool[np.ndarray, " patch"]
Cover = Float[np.ndarray, "thing row column"]

PixelValues = Float[Tensor, "scene 3 side side"]
TokenIds = Int[Tensor, "text position"]
Hidden = Float[Tensor, "scene patch width"]
Masks = Bool[Tensor, "scene window patch"]
Reads = Float[Tensor, "scene window width"]
Embeddings = Float[Tensor, "row width"]
Directions = Float[Tensor, "text width"]
Scores = Float[Tensor, "row text"]
PatchScores = Float[Tensor, "scene patch text"]
ViewScores = Float[Tensor, "scene view text"]
