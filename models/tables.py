"""Every table in one place, for what must know them all: migrations and checks."""

from models.account import Account, AccountSession
from models.api_key import ApiKey, KeyUsage
from models.audit import AuditEntry
from models.base import Base
from models.cached_result import CachedResult
from models.history import ItemMinute, JobHour, JobMinute
from models.idempotency_key import IdempotencyKey
from models.image import Image
from models.image_set import ImageSet, ImageSetItem, ImageSetVersion
from models.job import Job, JobEvent, JobInput, Result
from models.job_action import JobAction
from models.queue import Flow, Queue
from models.reservation import Reservation
from models.set_vector import SetIndex, SetVector
from models.text_embedding import TextEmbedding
from models.webhook import WebhookDelivery, WebhookEndpoint
from models.work import Attempt, Lease, Work
from models.worker import Worker

__all__ = [
    "Account",
    "AccountSession",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "Base",
    "CachedResult",
    "Flow",
    "IdempotencyKey",
    "Image",
    "ImageSet",
    "ImageSetItem",
    "ImageSetVersion",
    "ItemMinute",
    "Job",
    "JobAction",
    "JobEvent",
    "JobHour",
    "JobInput",
    "JobMinute",
    "KeyUsage",
    "Lease",
    "Queue",
    "Reservation",
    "Result",
    "SetIndex",
    "SetVector",
    "TextEmbedding",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Work",
    "Worker",
]

metadata = Base.metadata
