"""Models on the wire: what each is, who serves it, and what waits for it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.workers import WorkerError


class DimensionsView(BaseModel):
    """The sizes of a checkpoint."""

    model_config = ConfigDict(from_attributes=True)

    image_size: int
    patch_size: int
    grid: Annotated[list[int], Field(min_length=2, max_length=2, description="Patch tokens as [rows, cols].")]
    patch_tokens: int
    layers: int = Field(description="Blocks; a lens has one layer more, the embeddings.")
    hidden_size: int = Field(description="The width of the hidden states, and of an embedding.")
    attention_heads: int
    mlp_size: int


class QueueView(BaseModel):
    """The items of a model that wait for a worker, and those that a worker holds."""

    waiting_items: int = 0
    running_items: int = 0
    oldest_s: float | None = Field(None, description="How long the oldest waits; null when none does.")


class ModelView(BaseModel):
    """A model that jobs may name."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    default: bool = Field(description="Whether it is the model of jobs that name none.")
    dimensions: DimensionsView | None = Field(description="Null until they can be read.")
    workers_online: int = Field(description="Workers of this model that are loaded and alive.")
    gflop_per_s: float | None = Field(
        description="What one of its workers does, as measured in the last minutes; null where none was."
    )
    queue: QueueView
    error: WorkerError | None = Field(
        description="Why its last worker could not load, as long as none is online."
    )


class ModelsPage(BaseModel):
    """Every model that jobs may name."""

    items: list[ModelView]
