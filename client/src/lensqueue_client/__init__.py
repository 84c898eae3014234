"""A client of Lensqueue: submit pictures, wait, fetch what each layer of SigLIP sees, as numpy arrays."""

from lensqueue_client.actions import Action
from lensqueue_client.arrays import JobArrays
from lensqueue_client.asynchronous import AsyncClient
from lensqueue_client.client import Client
from lensqueue_client.errors import (
    ActionTimeoutError,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    GoneError,
    InvalidRequestError,
    JobFailedError,
    JobNotEndedError,
    LensqueueError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RefusedError,
    ServiceError,
    UnavailableError,
    UnreachableError,
    WaitTimeoutError,
)
from lensqueue_client.events import Event
from lensqueue_client.flows import Retries
from lensqueue_client.items import Item, Top
from lensqueue_client.jobs import ItemError, Job, Obstacle, Progress
from lensqueue_client.models import Dimensions, Model, Queue, Worker
from lensqueue_client.pictures import Picture
from lensqueue_client.reproduction import Reproduction
from lensqueue_client.sets import (
    Added,
    FolderAdded,
    Found,
    FoundItem,
    ImageSet,
    ImageSetVersion,
    NewItem,
    SetItem,
)

__all__ = [
    "Action",
    "ActionTimeoutError",
    "Added",
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "Dimensions",
    "Event",
    "FolderAdded",
    "Found",
    "FoundItem",
    "GoneError",
    "ImageSet",
    "ImageSetVersion",
    "InvalidRequestError",
    "Item",
    "ItemError",
    "Job",
    "JobArrays",
    "JobFailedError",
    "JobNotEndedError",
    "LensqueueError",
    "Model",
    "NewItem",
    "NotFoundError",
    "Obstacle",
    "PermissionDeniedError",
    "Picture",
    "Progress",
    "Queue",
    "RateLimitedError",
    "RefusedError",
    "Reproduction",
    "Retries",
    "ServiceError",
    "SetItem",
    "Top",
    "UnavailableError",
    "UnreachableError",
    "WaitTimeoutError",
    "Worker",
]
