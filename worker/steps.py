"""Forward passes of bounded size: what goes wrong is halved until it is known which items are to blame."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import structlog

from engine.errors import EngineError, OutOfMemoryError
from worker.pace import Room

log = structlog.get_logger()

Entry = TypeVar("Entry")
Answer = TypeVar("Answer")

HOPELESS: Final = 3
"""So many single items that fail, and none that succeeds: it is not the items, no more are tried."""


@dataclass(slots=True)
class Steps(Generic[Entry, Answer]):
    """What came out: entries with the answer that they share, and single ones with what they raised."""

    done: list[tuple[Sequence[Entry], Answer]] = field(default_factory=list)
    failed: list[tuple[Entry, Exception | SystemExit]] = field(default_factory=list)


def run_in_steps(
    entries: Sequence[Entry],
    run: Callable[[Sequence[Entry]], Answer],
    *,
    room: Room,
    item_bytes: int,
    step: Callable[[], None],
    most: int | None = None,
    thorough: bool = False,
) -> Steps[Entry, Answer]:
    """Run all entries, as many at once as there is room for; `step` is called before each pass.

    `most` bounds a pass where something else than the device's memory does.
    Unless it is to be `thorough`, it gives up where the first items fail, each alone, and none succeeds.
    Whatever `step` raises ends it all.
    """
    steps: Steps[Entry, Answer] = Steps()
    size = min(room.at_once(item_bytes), most or len(entries) or 1)
    waiting = deque(entries[first : first + size] for first in range(0, len(entries), size))
    while waiting:
        part = waiting.popleft()
        step()
        try:
            answer = run(part)
        except (Exception, SystemExit) as error:
            if isinstance(error, (MemoryError, OutOfMemoryError)):
                room.shrink(len(part), item_bytes)
            if len(part) > 1:
                log.warning("batch.halved", items=len(part), error=_short(error))
                half = len(part) // 2
                waiting.extendleft((part[half:], part[:half]))
                continue
            log.warning("item.failed", exc_info=not isinstance(error, EngineError), error=_short(error))
            steps.failed.append((part[0], _without_frames(error)))
            if not thorough and _is_hopeless(steps):
                steps.failed += [(entry, error) for left in waiting for entry in left]
                return steps
        else:
            steps.done.append((part, answer))
            room.grow()
    return steps


def is_refusal(error: BaseException) -> bool:
    """Whether the engine refuses the input: it will do so again."""
    return isinstance(error, EngineError) and not isinstance(error, OutOfMemoryError)


def _without_frames(error: Exception | SystemExit) -> Exception | SystemExit:
    """The error without its frames, which hold tensors, nor those of what it came from."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _is_hopeless(steps: Steps[Entry, Answer]) -> bool:
    return not steps.done and sum(not is_refusal(error) for _, error in steps.failed) >= HOPELESS


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
