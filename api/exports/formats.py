"""The formats that results come in, and how each is written."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from api.exports.ndjson import write_ndjson
from api.exports.npz import write_npz
from api.exports.parquet import write_parquet
from api.exports.reading import Export


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file: the same `edition` and the same results are the same bytes."""

    name: str
    media_type: str
    write: Callable[[Export], Iterator[bytes]]
    edition: str


PAGES: Final = "application/json"
PAGES_EDITION: Final = "1"
"""To be raised, as that of a file, with any change to what a page is."""
FORMATS: Final[Mapping[str, Format]] = {
    made.name: made
    for made in (
        Format("ndjson", "application/x-ndjson", write_ndjson, "1"),
        Format("parquet", "application/vnd.apache.parquet", write_parquet, f"1 of {pa.__version__}"),
        Format("npz", "application/zip", write_npz, "1"),
    )
}
"""By the name that `format` has them by; the edition is to be raised with any change to what is written."""
