"""What all kinds of work do alike: labels to directions, and items through the engine in bounded steps."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from engine.lens import LabelDirections
from jobs.leases import Unit
from worker.answers import TRIES, Answers
from worker.labels import shown_prompts
from worker.metrics import BATCH_ITEMS, BATCH_PLACES
from worker.passage import Passage
from worker.payloads import Shown
from worker.runtime import Runtime
from worker.stages import stage
from worker.steps import Steps, run_in_steps

PROMPTS_SHOWN: Final = 100

Found = TypeVar("Found", bound=Shown | dict[str, Any])
Answer = TypeVar("Answer")


def directions_of(
    runtime: Runtime, unit: Unit, passage: Passage, provenance: dict[str, Any]
) -> LabelDirections:
    """The labels of a unit as directions; what was embedded for them goes into the provenance."""
    options = unit.options
    with passage.aside(), stage("labels"):
        directions = runtime.labels.directions(
            unit.tenant, options["labels"], options["template"], passage.step
        )
    provenance["template"] = options["template"]
    # a poll carries the provenance: thousands of prompts would weigh more than the job
    provenance["prompts"] = shown_prompts(directions.prompts, PROMPTS_SHOWN)
    return directions


def run_entries(
    runtime: Runtime,
    entries: Sequence[tuple[Unit, Found]],
    run: Callable[[Sequence[tuple[Unit, Found]]], Answer],
    passage: Passage,
    answers: Answers,
    most: int | None = None,
) -> Steps[tuple[Unit, Found], Answer]:
    """Run entries, each a unit with one of its items, as many at once as fit; failures become answers."""
    item_bytes = max((unit.item_bytes for unit, _ in entries), default=0)
    # in the end all are tried, for the sake of good items that come after bad ones
    thorough = all(unit.attempt >= TRIES for unit, _ in entries)

    def run_timed(part: Sequence[tuple[Unit, Found]]) -> Answer:
        with stage("forward"):
            return run(part)

    steps = run_in_steps(
        entries,
        run_timed,
        room=runtime.room,
        item_bytes=item_bytes,
        step=passage.step,
        most=most,
        thorough=thorough,
    )
    # after the run: what the device had no room for was no place
    places = min(runtime.room.at_once(item_bytes), most or runtime.settings.batch_items)
    for part, _ in steps.done:
        runtime.heartbeat.pace.fill.count(len(part), max(len(part), places))
        BATCH_ITEMS.inc(len(part))
        BATCH_PLACES.inc(max(len(part), places))
    ran = {(unit.job_id, unit.unit) for part, _ in steps.done for unit, _ in part}
    for (unit, found), error in steps.failed:
        item = found if isinstance(found, dict) else found.item
        answers.fail(unit, item, error, alone=(unit.job_id, unit.unit) in ran)
    return steps
