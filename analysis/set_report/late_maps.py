"""Where the labels of late items are read: maps kept of a sample, painted for the contact sheet."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.set_report.facts import LateMaps, LayerMap, Pictures
from analysis.set_report.stamps import STAMP_SIDE
from analysis.sets.facts import SampledMaps, SetFacts
from analysis.sets.label_maps import LEAST_IMAGES
from analysis.sets.schema import LateFlip
from pictures.colours import Scale
from pictures.coverage import PatchGrid
from pictures.errors import PictureError
from pictures.heatmap import display_size, heatmap
from pictures.png import to_png
from pictures.thumbnail import open_thumbnail


def read_late_maps(facts: SetFacts, late: Sequence[LateFlip], pictures: Pictures) -> LateMaps | None:
    """The maps of the label before and of the final one, of those late items whose maps were kept.

    Each less the label's mean over all images that have maps, so that what it shows in any picture is taken
    off. None where none of them has any, or where too few images have for a mean to be of the label.
    """
    if facts.maps is None:
        return None
    of, first = np.unique(facts.maps.rows, return_index=True)
    if len(of) < LEAST_IMAGES:
        return None
    places = dict(zip(facts.index[of].tolist(), first.tolist(), strict=True))
    sizes = {item.index: _size(pictures(item.index)) for item in late if item.index in places}
    shown = [(item, size) for item in late if (size := sizes.get(item.index))]
    labels = {facts.labels.index(name) for item, _ in shown for name in (item.before, item.top)}
    means = {label: _mean(facts.maps, first, label) for label in labels}
    beyond = {
        (item.index, name): facts.maps.values[places[item.index], label].astype(np.float32) - means[label]
        for item, _ in shown
        for name in (item.before, item.top)
        for label in [facts.labels.index(name)]
    }
    highest = max((float(values.max()) for values in beyond.values()), default=0.0)
    if not 0 < highest < np.inf:
        return None
    layer, scale = facts.maps.layer, Scale(0.0, highest)
    painted = {
        item.index: [
            LayerMap(layer, name, _paint(beyond[item.index, name], size, scale))
            for name in (item.before, item.top)
        ]
        for item, size in shown
    }
    return LateMaps(painted, layer, facts.maps.method, len(of), highest)


def _mean(maps: SampledMaps, images: NDArray[np.int64], label: int) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = maps.values[images, label].mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _size(picture: bytes | None) -> tuple[int, int] | None:
    """The size of its stamp: the map is to lie on that."""
    try:
        return None if picture is None else display_size(*open_thumbnail(picture).size, STAMP_SIDE)
    except PictureError:
        return None


def _paint(values: NDArray[np.float32], size: tuple[int, int], scale: Scale) -> bytes:
    # a strip of less than a patch that some checkpoints do not read is less than two pixels of a stamp
    rows, cols = values.shape
    return to_png(heatmap(values, PatchGrid(rows, cols, 1, max(rows, cols)), size, scale))
