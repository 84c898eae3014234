"""Actions on many jobs, on the wire."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, Strict, model_validator

from api.schemas.ids import action_id, job_id
from api.schemas.listing import MAX_VALUES
from api.schemas.pages import cut
from api.schemas.submissions import ModelName, Tags
from api.schemas.wire import DATED, WHOLE, Wire, storable
from jobs.actions import MAX_JOBS
from jobs.listing import JobFilter
from models.job_action import JobAction
from models.types import ActionState, ActionVerb, JobState, JobType

# a time is a string on the wire, and an enumeration's member too
State = Annotated[JobState, Strict(False)]
Type = Annotated[JobType, Strict(False)]
Time = Annotated[AwareDatetime, Strict(False), DATED]
Reason = Annotated[str, Field(max_length=1_000), AfterValidator(storable)]


class ActionFilter(Wire):
    """Which jobs: of any of the states, types and models, and with all of the tags; not all there are."""

    state: Annotated[list[State], Field(max_length=MAX_VALUES, fail_fast=True)] = Field(default_factory=list)
    type: Annotated[list[Type], Field(max_length=MAX_VALUES, fail_fast=True)] = Field(default_factory=list)
    model: Annotated[list[ModelName], Field(max_length=MAX_VALUES, fail_fast=True)] = Field(
        default_factory=list
    )
    tags: Tags = Field(default_factory=dict)
    created_after: Time | None = None
    created_before: Time | None = None

    def wanted(self) -> JobFilter:
        """The filter of the domain."""
        return JobFilter(
            states=frozenset(self.state),
            types=frozenset(self.type),
            models=frozenset(self.model),
            tags=self.tags,
            created_after=self.created_after,
            created_before=self.created_before,
        )


class ActionRequest(Wire):
    """What is to be done to all jobs that a filter finds; those submitted later are left alone."""

    action: Annotated[ActionVerb, Strict(False)] = Field(
        description="`retry` tries those items again that failed or were dropped."
    )
    filter: ActionFilter
    dry_run: bool = Field(False, description="Only count the jobs.")
    expected_count: Annotated[int, Field(ge=0, le=MAX_JOBS), WHOLE] | None = Field(
        None,
        description="As many as a dry run has counted; if it is another number by now, nothing is done."
        " Needed unless it is one.",
    )
    reason: Reason | None = Field(None, description="Kept with the action, for whoever asks later.")

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if not self.dry_run and self.expected_count is None:
            raise ValueError("give expected_count, as a dry run has counted")
        return self


class ActionCount(BaseModel):
    """What a dry run found."""

    count: int = Field(
        description=f"Jobs that the filter finds; {MAX_JOBS + 1} stands for more than {MAX_JOBS}, which is"
        " the most that one action takes."
    )


class ActionError(BaseModel):
    """At which job the service failed, and how."""

    code: str = Field(description="`timed-out` or `internal`.")
    message: str
    job_id: str


class ActionView(BaseModel):
    """An action, and how far it is; each job is done or skipped in the end."""

    id: str
    action: ActionVerb
    filter: dict[str, Any]
    reason: str | None
    state: ActionState
    matched: int = Field(description="Jobs that the filter found when it was accepted.")
    done: int
    skipped: int = Field(description="Jobs that could not be acted upon, or were found no more.")
    error: ActionError | None = Field(
        description="The first failure of the service at one of the jobs; it went on with the others."
    )
    created_at: datetime
    ended_at: datetime | None


class ActionsPage(BaseModel):
    """A page of actions, newest first."""

    items: list[ActionView]
    next_page_token: str | None = Field(description="Give it as `page_token`; null on the last page.")


def view(action: JobAction) -> ActionView:
    """What the wire shows of an action."""
    return ActionView(
        id=action_id(action.id),
        action=ActionVerb(action.verb),
        filter=action.filter,
        reason=action.reason,
        state=ActionState(action.state),
        matched=action.matched,
        done=action.done,
        skipped=action.skipped,
        error=_error(action.error),
        created_at=action.created_at,
        ended_at=action.ended_at,
    )


def _error(kept: dict[str, Any] | None) -> ActionError | None:
    return None if kept is None else ActionError(**kept | {"job_id": job_id(uuid.UUID(kept["job_id"]))})


def page(actions: Sequence[JobAction], limit: int) -> ActionsPage:
    """A page of at most `limit` actions out of one more, which tells that another page follows."""
    shown, token = cut(actions, limit)
    return ActionsPage(items=[view(action) for action in shown], next_page_token=token)
