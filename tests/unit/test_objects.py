"""Objects of work units in the blob store."""

import uuid

import pytest

from jobs.blobs import BlobStore
from jobs.errors import BlobMissingError
from jobs.objects import Span, put_object, read_span

TOKEN = uuid.UUID(int=7)


def test_each_part_comes_back_alone(blobs: BlobStore) -> None:
    parts = [b"first", b"", b"third"]
    spans = put_object(blobs, "tenant", TOKEN, parts)
    assert [read_span(blobs, "tenant", TOKEN, span) for span in spans] == parts


def test_an_object_of_one_tenant_is_nothing_to_another(blobs: BlobStore) -> None:
    (span,) = put_object(blobs, "tenant", TOKEN, [b"maps"])
    with pytest.raises(BlobMissingError):
        read_span(blobs, "another", TOKEN, span)


def test_a_part_beyond_the_end_is_missing_not_short(blobs: BlobStore) -> None:
    put_object(blobs, "tenant", TOKEN, [b"maps"])
    with pytest.raises(BlobMissingError):
        read_span(blobs, "tenant", TOKEN, Span(2, 3))


def test_a_late_worker_overwrites_nothing(blobs: BlobStore) -> None:
    (span,) = put_object(blobs, "tenant", TOKEN, [b"good"])
    put_object(blobs, "tenant", uuid.UUID(int=8), [b"late"])
    assert read_span(blobs, "tenant", TOKEN, span) == b"good"


def test_a_store_that_is_not_mounted_is_not_made_anew(blobs: BlobStore) -> None:
    blobs.folder.rename(blobs.folder.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError):
        put_object(blobs, "tenant", TOKEN, [b"maps"])
    assert not blobs.folder.exists()
