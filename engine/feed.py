"""Batches on their way to a GPU: as bytes, a quarter of what they become, and one batch ahead."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import InvalidArgumentError
from engine.preprocess import PixelPath, look_up_batch, normalize, pixel_bytes
from engine.shapes import PixelBatch, PixelTable, PixelValues


@dataclass(frozen=True, slots=True)
class _Sent:
    """Bytes that may still be on their way, or pixel values; `arrival` is None where copies are at once."""

    pixels: PixelBatch | PixelValues
    arrival: torch.cuda.Event | None


class Handed:
    """Batches of pictures, and where the one stands that was handed out last: a fault is in it."""

    def __init__(self, batches: Iterable[Sequence[Any]]) -> None:
        self._batches = batches
        self._first = self._after = 0

    def __iter__(self) -> Iterator[Sequence[Any]]:
        """The batches."""
        for batch in self._batches:
            self._first, self._after = self._after, self._after + len(batch)
            yield batch

    def locate(self, fault: InvalidArgumentError) -> InvalidArgumentError:
        """The fault of a picture of that batch, by its place among all of them."""
        if not fault.path:
            return fault
        place, problem = self._first + int(fault.path[0]), str(fault).partition(": ")[2]
        return InvalidArgumentError("images", f"number {place}: {problem}", path=(place,))


def feed(path: PixelPath, table: PixelTable, batches: Iterable[Sequence[Any]]) -> Iterator[PixelValues]:
    """Pixel values [batch, 3, side, side] of each batch, on the table's device, as `normalize` gives them.

    While the model is at one batch, the bytes of the next are copied on a stream of their own, from pinned
    memory; the device looks them up in `table` itself. Float tensors are no bytes, and are normalised here.

    Raises:
        InvalidArgumentError: see `engine.preprocess.normalize`.
    """
    copying: torch.cuda.Stream | None = None
    if table.device.type == "cuda":
        copying = torch.cuda.Stream(table.device)  # type: ignore[no-untyped-call]  # torch gives none
    sent: deque[_Sent] = deque()
    for batch in batches:
        sent.append(_send(path, table.device, batch, copying))
        if len(sent) > 1:
            yield _arrived(sent.popleft(), table)
    while sent:
        yield _arrived(sent.popleft(), table)


def _send(
    path: PixelPath, device: torch.device, batch: Sequence[Any], copying: torch.cuda.Stream | None
) -> _Sent:
    in_floats = any(isinstance(each, torch.Tensor) and each.is_floating_point() for each in batch)
    if in_floats:
        pixels = normalize(path, batch)
        pixels = pixels if copying is None else pixels.pin_memory()
    else:
        # written there at once: to pin them afterwards would be another copy of all
        pixels = pixel_bytes(path, batch, pinned=copying is not None)
    if copying is None:
        return _Sent(pixels.to(device), None)
    with torch.cuda.stream(copying):
        return _Sent(pixels.to(device, non_blocking=True), copying.record_event())


def _arrived(sent: _Sent, table: PixelTable) -> PixelValues:
    if sent.arrival is not None:
        computing = torch.cuda.current_stream(table.device)
        computing.wait_event(sent.arrival)
        # it was allocated on the other stream, which must not reuse its memory before this one is done
        sent.pixels.record_stream(computing)
    return sent.pixels if sent.pixels.is_floating_point() else look_up_batch(table, sent.pixels)
