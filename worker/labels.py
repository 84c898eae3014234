"""Label directions kept between the units of a job in this process, and their texts in the database.

So a job's labels are embedded once, however many units and workers it has, and so are those that it shares
with jobs before it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from engine.directions import TextStore
from engine.labels import Prompts, read_labels, resolve_prompts, texts_of
from engine.lens import LabelDirections
from jobs.text_cache import find_texts, keep_texts

if TYPE_CHECKING:
    from engine.siglip import SiglipEngine

log = structlog.get_logger()

MAX_SETS: Final = 8
"""Label sets kept; the vectors of the largest (10,000 labels at width 1152, float32) take 46 MB."""
FOUND_AT_ONCE: Final = 1_000
"""Texts in one query: at width 1152 their vectors come as 9 MB."""

Vector = NDArray[np.float32]


class LabelCache:
    """The most recently used label sets, apart for every tenant: a hit would tell one of another's labels."""

    def __init__(self, engine: "SiglipEngine", sessions: sessionmaker[Session]) -> None:
        self._engine = engine
        self._sessions = sessions
        self._kept: OrderedDict[tuple[str, bytes], LabelDirections] = OrderedDict()
        self._keys: OrderedDict[bytes, list[bytes]] = OrderedDict()

    def directions(
        self,
        tenant: str,
        labels: Sequence[str | Mapping[str, Any]],
        template: str,
        step: Callable[[], None] | None = None,
    ) -> LabelDirections:
        """The unit vector of each label, as a job holds them; `step` is called before each pass it takes.

        Raises:
            LabelError: two labels are one to the tokenizer.
            InvalidArgumentError: a vector is not of this checkpoint's width.
        """
        key = (tenant, hashlib.sha256(orjson.dumps([template, labels])).digest())
        found = self._kept.pop(key, None) or self._embed(tenant, labels, template, step)
        self._kept[key] = found
        if len(self._kept) > MAX_SETS:
            self._kept.popitem(last=False)
        return found

    def keys(self, labels: Sequence[str | Mapping[str, Any]], template: str) -> list[bytes]:
        """A key of each text that the labels have: of its tokens, and of what embeds them.

        Raises:
            LabelsIndistinctError, LabelsMissingError, InvalidArgumentError: they are no labels.
        """
        name = hashlib.sha256(orjson.dumps([template, labels])).digest()
        found = self._keys.pop(name, None)
        if found is None:
            each = (resolve_prompts(label, template) for label in read_labels(labels))
            texts = list(dict.fromkeys(text for prompts in each for text in texts_of(prompts)))
            found = self._engine.text_keys(texts) if texts else []
        self._keys[name] = found
        if len(self._keys) > MAX_SETS:
            self._keys.popitem(last=False)
        return found

    def _embed(
        self,
        tenant: str,
        labels: Sequence[str | Mapping[str, Any]],
        template: str,
        step: Callable[[], None] | None,
    ) -> LabelDirections:
        shelf = Shelf(self._sessions, tenant)
        store = TextStore(shelf.find, shelf.keep)
        return self._engine.embed_labels(labels, template=template, step=step, store=store)


class Shelf:
    """A tenant's texts in the database, for one set of labels; after a first failure it is left alone.

    Each call is a transaction of its own: none is open while the model is at work.
    """

    def __init__(self, sessions: sessionmaker[Session], tenant: str) -> None:
        self._sessions = sessions
        self._tenant = tenant
        self._lost = False

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """The vectors that are there; none when the database does not answer."""
        found: dict[bytes, Vector] = {}
        waiting = iter(keys)
        while not self._lost and (some := list(islice(waiting, FOUND_AT_ONCE))):
            try:
                with self._sessions.begin() as session:
                    rows = find_texts(session, self._tenant, some)
            except SQLAlchemyError as error:
                self._give_up("labels.not_found", error)
            else:
                found |= {key: np.frombuffer(vector, dtype="<f4") for key, vector in rows.items()}
        return found

    def keep(self, vectors: Mapping[bytes, Vector]) -> None:
        """Keep new ones, if the database answers."""
        if self._lost or not vectors:
            return
        try:
            with self._sessions.begin() as session:
                rows = {key: vector.astype("<f4").tobytes() for key, vector in vectors.items()}
                keep_texts(session, self._tenant, rows)
        except SQLAlchemyError as error:
            self._give_up("labels.not_kept", error)

    def _give_up(self, event: str, error: SQLAlchemyError) -> None:
        # no reason to fail a job: its labels are embedded here, and again by whoever is next
        log.warning(event, error=str(error))
        self._lost = True


def shown_prompts(prompts: Iterable[Prompts], most: int) -> list[Prompts]:
    """The prompts of the first labels, as many as have `most` texts at most."""
    shown: list[Prompts] = []
    texts = 0
    for each in prompts:
        # a vector has no text, and is one more to show all the same
        texts += max(1, len(texts_of(each)))
        if texts > most:
            break
        shown.append(each)
    return shown
