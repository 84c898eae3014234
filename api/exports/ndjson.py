"""Results as lines of JSON."""

from collections.abc import Iterator

from api.exports.reading import Export, pages
from api.schemas.results import item


def write_ndjson(export: Export) -> Iterator[bytes]:
    """One item a line, each the object that a page has of it."""
    for page in pages(export):
        yield b"".join(item(result).model_dump_json(exclude_unset=True).encode() + b"\n" for result in page)
