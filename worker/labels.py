"""Label directions kept between the units of a job, so that its labels are embedded once."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.lens import LabelDirections

if TYPE_CHECKING:
    from engine.siglip import SiglipEngine

MAX_SETS = 8
"""Label sets kept; the vectors of the largest (10,000 labels at width 1152, float32) take 46 MB."""


class LabelCache:
    """The most recently used label sets, apart for every tenant: a hit would tell one of another's labels."""

    def __init__(self, engine: "SiglipEngine") -> None:
        self._engine = engine
        self._kept: OrderedDict[tuple[str, str, tuple[str, ...]], LabelDirections] = OrderedDict()

    def directions(
        self, tenant: str, labels: Sequence[str], template: str, step: Callable[[], None] | None = None
    ) -> LabelDirections:
        """The unit text embedding of each label in the template; `step` is called before each pass it takes.

        Raises:
            LabelError: two labels are one to the tokenizer.
        """
        key = (tenant, template, tuple(labels))
        found = self._kept.pop(key, None) or self._engine.embed_labels(labels, template=template, step=step)
        self._kept[key] = found
        if len(self._kept) > MAX_SETS:
            self._kept.popitem(last=False)
        return found
