"""What a job would cost, on the wire."""

from pydantic import BaseModel, ConfigDict, Field

from jobs.estimates import COUNTED_UNITS, Estimate
from models.types import Priority


class EstimateView(BaseModel):
    """What a job would come to; nothing of it was stored or charged."""

    model_config = ConfigDict(protected_namespaces=(), from_attributes=True)

    model: str
    priority: Priority
    items: int
    unit_items: int = Field(description="So many items a worker takes at once.")
    gflop: float = Field(description="Estimated work, by the sizes of the model.")
    seconds: float | None = Field(
        description="Of that work at the measured rate, on all workers that are online, or one; null where"
        " none has measured the model lately."
    )
    result_bytes: int = Field(description="Estimated size of the results, with all arrays that are kept.")
    workers_online: int
    dtype: str | None = Field(
        description="What the workers that are online compute in; null where none is, or they differ."
    )
    items_before: int = Field(
        description=f"Items that wait before it; of more than {COUNTED_UNITS} units, those in the first ones."
    )


def view(model: str, estimate: Estimate) -> EstimateView:
    """What the wire shows of an estimate."""
    return EstimateView(
        model=model,
        priority=estimate.priority,
        items=estimate.items,
        unit_items=estimate.unit_items,
        gflop=round(estimate.gflop, 3),
        seconds=None if estimate.seconds is None else round(estimate.seconds, 3),
        result_bytes=estimate.result_bytes,
        workers_online=estimate.workers_online,
        dtype=estimate.dtype,
        items_before=estimate.items_before,
    )
