"""What a pass that failed leaves behind."""

import gc
import weakref
from collections.abc import Sequence

from engine.arguments import memory_errors
from engine.errors import OutOfMemoryError
from worker.pace import Room
from worker.steps import run_in_steps


class Tensors:
    """Something large in a frame."""


def test_a_failed_item_keeps_nothing_of_its_pass() -> None:
    held: list[weakref.ref[Tensors]] = []

    def run(_: Sequence[str]) -> None:
        tensors = Tensors()
        held.append(weakref.ref(tensors))
        with memory_errors():
            raise MemoryError

    room = Room(items=8, memory_bytes=1_000)
    steps = run_in_steps(["picture"], run, room=room, item_bytes=10, step=lambda: None)
    gc.collect()
    ((item, error),) = steps.failed
    assert (item, type(error)) == ("picture", OutOfMemoryError)
    assert [each() for each in held] == [None]
