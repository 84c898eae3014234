"""What a worker process reads from the environment."""

import uuid
from datetime import timedelta
from typing import Literal

from pydantic import Field

from jobs.settings import ServiceSettings
from pictures.decode import DEFAULT_LIMITS, MEBIBYTE


class WorkerSettings(ServiceSettings):
    """Settings of a worker, beside the ones it shares with the API."""

    model: str
    """Name of the checkpoint that this worker loads; also its queue."""
    device: str | None = None
    """`cpu`, `cuda:0`, ...; a CUDA device if there is one, when absent."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the products in the vision tower; bfloat16 is faster, within law 3b of docs/architecture/3."""
    runtime: Literal["auto", "torch", "compiled", "openvino"] = "auto"
    """What runs the vision tower; the fastest for the device when `auto`, see `engine.runtimes.choice`."""
    engine: str = "engine.siglip:SiglipEngine"
    """What loads and runs the checkpoint: `module:name` of something that is called as SiglipEngine is."""
    worker_id: uuid.UUID = Field(default_factory=uuid.uuid4)
    """Given by the parent process to its child, so that both speak of the same worker."""
    lease_seconds: float = Field(15.0, ge=1)
    """A worker that is not heard of for so long loses its work; at least four batches."""
    hard_limit_seconds: float = Field(600.0, ge=1)
    """No unit may take longer, heartbeats or not."""
    slice_seconds: float = Field(20.0, ge=0)
    """A task goes on claiming for so long, then hands over to the next message."""
    stall_seconds: float | None = Field(None, gt=0)
    """A worker that takes no step for so long renews no lease; a minute or four batches, when absent."""
    batch_items: int = Field(32, ge=1)
    """So many items share a forward pass at most, and as many single ones are claimed together."""
    batch_bytes: int | None = Field(None, ge=1)
    """Estimated memory of a batch; half of what is free on a GPU and 2 GiB on a CPU, when absent."""
    max_image_bytes: int = DEFAULT_LIMITS.image_bytes
    """A picture of more bytes is refused, before anything of it is decoded."""
    max_image_pixels: int = DEFAULT_LIMITS.pixels
    """The same of one of more pixels, as its header says: width times height."""
    max_image_frames: int = DEFAULT_LIMITS.frames
    """A file with more is refused, although the first alone is decoded."""
    s3_endpoint_url: str | None = None
    """Where S3 is, or what speaks as it does; the AWS variables say who the worker is there."""
    decoders: int = Field(2, ge=1)
    """Decoding processes beside the model."""
    decode_seconds: float = Field(20.0, gt=0)
    """A picture that takes longer fails."""
    decode_memory_bytes: int = Field(1536 * MEBIBYTE, ge=64 * MEBIBYTE)
    """A picture that takes more fails; the costliest within the default limits take less than 1 GiB."""

    metrics_port: int = Field(0, ge=0, le=65_535)
    """Its metrics are told at `/metrics` of this port; nowhere when 0. Each worker of a host has its own."""
    metrics_host: str = "127.0.0.1"
    """The address of that port; in a container `0.0.0.0`, for it asks nobody who he is."""

    @property
    def lease(self) -> timedelta:
        """The lifetime of a lease between heartbeats."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def hard_limit(self) -> timedelta:
        """The lifetime of a lease at all."""
        return timedelta(seconds=self.hard_limit_seconds)
