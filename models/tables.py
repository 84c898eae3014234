"""Every table in one place, for what must know them all: migrations and checks."""

from models.api_key import ApiKey
from models.base import Base
from models.idempotency_key import IdempotencyKey
from models.image import Image
from models.job import Job, JobInput, Result
from models.queue import Flow, Queue
from models.text_embedding import TextEmbedding
from models.work import Attempt, Lease, Work
from models.worker import Worker

__all__ = [
    "ApiKey",
    "Attempt",
    "Base",
    "Flow",
    "IdempotencyKey",
    "Image",
    "Job",
    "JobInput",
    "Lease",
    "Queue",
    "Result",
    "TextEmbedding",
    "Work",
    "Worker",
]

metadata = Base.metadata
