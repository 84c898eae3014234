"""Where each label is read in a sample of an image set: maps that its summary makes means of.

The last layer's patch lens by value: a mean is compared with a mean of the same label, so that a zero that
means nothing falls out, and it costs 0.2 % of a pass of base-patch16-224 where the whole head costs 8 %.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.lens import Lens
from engine.plan import MAX_SCORED_LABELS, TOKEN_OUTPUTS
from jobs.leases import Unit
from jobs.tables import is_sampled
from worker.decoding import DecodedItem

MOST_MAPPED: Final = 2_000
"""Of so many items of a set at most the maps are kept, "about" as `is_sampled` says it."""
MAPS_BYTES: Final = 2**27
"""And of no more than take so much, all labels together: a map has two bytes a patch."""
METHOD: Final = "value"
_HALF_BYTES: Final = 2

Picture = tuple[Unit, DecodedItem]
Halves = NDArray[np.float16]
Alike = Sequence[tuple[DecodedItem, dict[str, Any]]]


class LabelMaps:
    """Those of one claim: asked for in passes that hold sampled items, and let go of all others.

    A job that asks for outputs of tokens itself is read as it says, and its own patch lens is kept if it has
    the last layer. Of more labels than MAX_SCORED_LABELS each picture has maps of its best alone, which
    have no mean: none are kept.
    """

    def __init__(self, options: dict[str, Any], labels: int, grid: tuple[int, int], depth: int) -> None:
        """For a claim with these options, by an engine of that grid and so many layers."""
        self._outputs = options["outputs"]
        self._depth = depth
        self._items = self._most = 0
        if "version" in options:
            self._items, self._most = int(options["version"]["items"]), most_mapped(labels, grid)
        self._maps: dict[tuple[uuid.UUID, int], Halves] = {}
        self.told: dict[str, Any] | None = None
        """Of what was kept the grid, the layer and the method; None where nothing was."""

    def asked(self, part: Sequence[Picture]) -> dict[str, Any]:
        """The options that a pass over these has on top of those of the job."""
        if set(self._outputs) & set(TOKEN_OUTPUTS) or not any(self._is_mapped(*each) for each in part):
            return {}
        return {"outputs": [*self._outputs, "patch"], "patch_layers": None, "patch_method": METHOD}

    def take(self, part: Sequence[Picture], lens: Lens) -> Lens:
        """Keep the maps of sampled items of a pass; the lens without what the job did not ask for."""
        if lens.patch is None:
            return lens
        if lens.patch.layers[-1] == self._depth:
            for row, (unit, found) in enumerate(part):
                values = lens.patch.cosine[row, -1].astype(np.float16)
                if self._is_mapped(unit, found) and np.isfinite(values).all():
                    self._maps[unit.job_id, found.item["index"]] = values.ravel()
                    self.told = {
                        "grid": list(lens.patch.grid),
                        "layer": self._depth,
                        "method": lens.patch.method,
                    }
        return lens if "patch" in self._outputs else replace(lens, patch=None)

    def column(self, job_id: uuid.UUID, alike: Alike) -> pa.Array:
        """The maps [labels x rows x cols] of items as they are in a table; null of those not sampled.

        `alike` are items, each with the one of the same bytes that was computed.
        """
        maps = [
            self._maps.get((job_id, found.item["index"]))
            if is_sampled(item["index"], self._items, self._most)
            else None
            for found, item in alike
        ]
        return pa.array(maps, pa.list_(pa.float16()))

    def _is_mapped(self, unit: Unit, found: DecodedItem) -> bool:
        """Whether an item is sampled, or another one that has its bytes."""
        sha256 = found.item["sha256"]
        return self._most > 0 and any(
            is_sampled(other["index"], self._items, self._most)
            for other in unit.items
            if other.get("sha256") == sha256
        )


def most_mapped(labels: int, grid: tuple[int, int]) -> int:
    """Of how many items of a set the maps of so many labels are kept."""
    if labels > MAX_SCORED_LABELS:
        return 0
    return min(MOST_MAPPED, MAPS_BYTES // (labels * grid[0] * grid[1] * _HALF_BYTES))
