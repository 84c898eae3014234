"""Everything the domain refuses, each with a stable code; HTTP statuses live in `api.errors`.

A long file that is one list: whoever looks for a code, or makes one, looks in one place.
"""

from collections.abc import Sequence
from typing import ClassVar


class DomainError(Exception):
    """Something was refused."""

    code: ClassVar[str] = "refused"

    def __init__(
        self, message: str | None = None, *, pointer: str | None = None, pointers: Sequence[str] = ()
    ) -> None:
        """Keep the message (the docstring unless given) and where in the request the fault lies."""
        self.message = message or (type(self).__doc__ or "").strip()
        self.pointers = list(pointers) if pointer is None else [pointer]
        super().__init__(self.message)


class InvalidRequestError(DomainError):
    """The request does not say what it must."""

    code = "invalid-request"


class NoInputError(InvalidRequestError):
    """Give at least one image or text to work on."""

    code = "no-input"


class TooManyInputsError(InvalidRequestError):
    """The job holds more items than one inline job may."""

    code = "too-many-inputs"


class NoLabelsError(InvalidRequestError):
    """A logit lens needs at least one label: give `labels` a list, of strings for example."""

    code = "no-labels"


class TooManyLabelsError(InvalidRequestError):
    """The job names more labels than one job may, or more prompts or numbers in them."""

    code = "too-many-labels"


class LabelsTooLongError(InvalidRequestError):
    """The names of the labels are too long to be repeated in every result."""

    code = "labels-too-long"


class DuplicateLabelsError(InvalidRequestError):
    """Two labels have the same name."""

    code = "duplicate-labels"


class OutputsTooLargeError(InvalidRequestError):
    """The arrays that the job asks for are larger than one job may keep."""

    code = "outputs-too-large"


class UnknownImageError(InvalidRequestError):
    """There is no image of this id for this key: send the picture to /v1/images first."""

    code = "unknown-image"


class UnknownJobError(InvalidRequestError):
    """There is no job of this id for this key."""

    code = "unknown-job"


class UnknownImageSetError(InvalidRequestError):
    """There is no sealed version of an image set of this id for this key."""

    code = "unknown-image-set-version"


class DuplicateCustomIdError(InvalidRequestError):
    """A custom_id is in the set already: each names one item."""

    code = "duplicate-custom-id"


class TooManyItemsError(InvalidRequestError):
    """The set would have more items than a set takes."""

    code = "too-many-items"


class NotAnArchiveError(InvalidRequestError):
    """This is no zip, tar or tar.gz archive: pack the files as one of these."""

    code = "not-an-archive"


class ArchiveTruncatedError(InvalidRequestError):
    """The archive ends early: send the whole file."""

    code = "archive-truncated"


class ArchiveDamagedError(InvalidRequestError):
    """The archive is damaged: pack it again."""

    code = "archive-damaged"


class ArchiveTooLargeError(InvalidRequestError):
    """The archive unpacks to more than the service takes: send it in parts."""

    code = "archive-too-large"


class ArchiveRatioError(InvalidRequestError):
    """The archive unpacks to so many times its size that it is not unpacked: pack it without compression."""

    code = "archive-ratio"


class TooManyMembersError(InvalidRequestError):
    """The archive has more members than the service takes: send it in parts."""

    code = "too-many-members"


class NotAManifestError(InvalidRequestError):
    """This is no manifest: send JSON Lines, an object a line, or CSV with a line of column names."""

    code = "not-a-manifest"


class EmptySourceError(InvalidRequestError):
    """There is nothing in it to add."""

    code = "empty-source"


class S3NotAllowedError(InvalidRequestError):
    """This service reads nothing there: its operator allows prefixes by LENSQUEUE_S3_ALLOWED."""

    code = "s3-not-allowed"


class S3RefusedError(DomainError):
    """There is no such bucket, or it is not for this service to read."""

    code = "s3-refused"


class SourceMissingError(DomainError):
    """What was sent is not kept any more: send it again, as a new job."""

    code = "source-missing"


class VersionSealedError(DomainError):
    """The version was sealed before all of it was added: send the rest again, to the set's next version."""

    code = "version-sealed"


class EmptySetError(DomainError):
    """The set holds no picture: add some before it is sealed."""

    code = "empty-set"


class NotSealedError(DomainError):
    """This version is still open: seal the set, and name the sealed version."""

    code = "not-sealed"


class NotOverSetError(DomainError):
    """Only a logit lens over an image set can be summarised, or set beside another one."""

    code = "not-over-set"


class NothingToSummariseError(DomainError):
    """Nothing of that job succeeded: there is nothing to summarise."""

    code = "nothing-to-summarise"


class IncomparableError(DomainError):
    """These two jobs cannot be set side by side."""

    code = "incomparable"


class NotIndexedError(DomainError):
    """This version cannot be searched yet: summarise a job over it first."""

    code = "not-indexed"


class WrongModelError(InvalidRequestError):
    """The version cannot be searched by this model."""

    code = "wrong-model"


class NoVectorError(InvalidRequestError):
    """The version has no vector of this item: there is no such item, or nothing could be computed of it."""

    code = "no-vector"


class QueryFailedError(InvalidRequestError):
    """What is searched for could not be embedded."""

    code = "query-failed"


class ImageInUseError(DomainError):
    """A job or an image set that is kept still uses this image."""

    code = "image-in-use"


class InvalidIdempotencyKeyError(InvalidRequestError):
    """`Idempotency-Key` is one header of 1 to 255 printable ASCII characters."""

    code = "invalid-idempotency-key"


class IdempotencyKeyReusedError(InvalidRequestError):
    """This Idempotency-Key was used within a day for another request: take a new key for a new one."""

    code = "idempotency-key-reused"


class IdempotencyKeyInUseError(DomainError):
    """Another request with this Idempotency-Key is still at it: send this one again when that is answered."""

    code = "idempotency-key-in-use"


class IdempotencyKeySpentError(DomainError):
    """What was made with this Idempotency-Key is gone: take a new key to make it again."""

    code = "idempotency-key-spent"


class NotFoundError(DomainError):
    """There is nothing of that id for this key."""

    code = "not-found"


class JobDeletedError(DomainError):
    """The job was deleted."""

    code = "job-deleted"


class NotEndedError(DomainError):
    """The job has not ended yet: cancel it first, or wait for its end."""

    code = "not-ended"


class NothingToRetryError(DomainError):
    """All items of the job succeeded: to compute them again, retry `all`."""

    code = "nothing-to-retry"


class AlreadyRetriedError(DomainError):
    """This was tried again before, and only the last try knows how far it came: retry the newest one."""

    code = "already-retried"


class AlreadyEndedError(DomainError):
    """The job has ended already."""

    code = "already-ended"


class EmbeddingsNotKeptError(DomainError):
    """The job kept no embeddings: submit a lens with "embeddings" among its `outputs` and rescore that."""

    code = "embeddings-not-kept"


class EmptyFilterError(InvalidRequestError):
    """An empty filter finds all jobs there are: say which."""

    code = "empty-filter"


class TooManyJobsError(InvalidRequestError):
    """The filter finds more jobs than one action takes: narrow it, by `created_before` for one."""

    code = "too-many-jobs"


class TooManyActionsError(DomainError):
    """As many actions of yours run as may at once: try again when one has ended."""

    code = "too-many-actions"


class CountDiffersError(DomainError):
    """The filter finds another number of jobs than was expected."""

    code = "count-differs"


class WorkerNotOnlineError(DomainError):
    """The worker is not online: there is nothing to drain."""

    code = "worker-not-online"


class QueueFullError(DomainError):
    """The queue takes no more at the moment; nothing was accepted, try again soon."""

    code = "queue-full"


class QuotaExceededError(DomainError):
    """Too much of yours is waiting already; nothing was accepted, try again when some of it is done."""

    code = "quota-exceeded"


class OverQuotaError(InvalidRequestError):
    """The job alone is larger than all that may wait at once."""

    code = "over-quota"


class ResultsExpiredError(DomainError):
    """The results were kept for `result_ttl_s` and then removed; the job itself stays."""

    code = "results-expired"


class NoResultYetError(NotFoundError):
    """This item has no result yet: poll its job."""

    code = "no-result-yet"


class ItemDroppedError(NotFoundError):
    """This item was dropped before anything was computed: its job was cancelled, or its time was over."""

    code = "item-dropped"


class NoRequestError(NotFoundError):
    """There is no body that makes this job again: ask for it as you did, at the set or job that it is of."""

    code = "no-request"


class NoMapsError(NotFoundError):
    """This item has no maps: it failed, or its job has none of patches among its `outputs`."""

    code = "no-maps"


class NoOutputError(NotFoundError):
    """This item has no such output: it failed, or its job did not ask for it."""

    code = "no-output"


class UnauthenticatedError(DomainError):
    """Send an API key: `Authorization: Bearer lq_...`."""

    code = "unauthenticated"


class InvalidKeyError(UnauthenticatedError):
    """This API key is unknown, revoked or expired."""

    code = "invalid-key"


class InsufficientScopeError(DomainError):
    """This key may not do that."""

    code = "insufficient-scope"


class LastAdminKeyError(DomainError):
    """This is your last key that can manage keys: make another one with the scope `admin` first."""

    code = "last-admin-key"


class AccountExistsError(DomainError):
    """There is an account of this email address: give that one another password, or take another address."""

    code = "account-exists"


class LastAdminError(DomainError):
    """This is the last account that can manage accounts: make another admin first."""

    code = "last-admin"


class SignInRefusedError(DomainError):
    """This email address and password do not belong together, or the account was disabled."""

    code = "sign-in-refused"


class SignedOutError(DomainError):
    """Nobody is signed in here, or not any more: sign in first."""

    code = "signed-out"


class RoleForbidsError(DomainError):
    """Your account's role does not allow this: ask whoever manages accounts."""

    code = "role-forbids"


class ForeignOriginError(DomainError):
    """This came from no page of the dashboard: only its own forms are heard."""

    code = "foreign-origin"


class UrlRefusedError(InvalidRequestError):
    """Requests go to public addresses only, by http or https, on ports 80 and 443."""

    code = "url-refused"


class UrlUnreachableError(DomainError):
    """Nobody answers at this URL."""

    code = "url-unreachable"


class UnknownWebhookEndpointError(InvalidRequestError):
    """There is no webhook endpoint of this id for this key: make one at /v1/webhook-endpoints first."""

    code = "unknown-webhook-endpoint"


class WebhookEndpointNotEnabledError(InvalidRequestError):
    """This webhook endpoint is not enabled, and is sent nothing."""

    code = "webhook-endpoint-not-enabled"


class TooManyWebhookEndpointsError(InvalidRequestError):
    """You have as many webhook endpoints as you may: delete one that is not needed."""

    code = "too-many-webhook-endpoints"


class UrlTooLargeError(DomainError):
    """There is more at this URL than the service takes."""

    code = "url-too-large"


class UrlsNotAllowedError(InvalidRequestError):
    """This service fetches no pictures: send them, or have its operator set LENSQUEUE_FETCH_URLS=true."""

    code = "urls-not-allowed"


class BlobMissingError(DomainError):
    """The stored picture is gone from the blob store."""

    code = "blob-missing"


class NumbersMissingError(DomainError):
    """The numbers of this item are gone from the blob store: run the job again."""

    code = "numbers-missing"


class BlobStoreFullError(DomainError):
    """The picture store takes no more at the moment; nothing was accepted."""

    code = "blob-store-full"


class BlobStoreMissingError(DomainError):
    """The blob folder was never set up: is the volume mounted, and has `lensqueue migrate` run?"""

    code = "blob-store-missing"
