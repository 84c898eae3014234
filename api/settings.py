"""What the API process reads from the environment."""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from api.fetching import FetchBounds
from api.spool import Bounds, Spool
from jobs.addresses import Rules
from jobs.admission import Quota
from jobs.retention import DELETED_JOBS_KEPT
from jobs.settings import ServiceSettings
from jobs.submit import Limits
from jobs.text_cache import TextBudget
from jobs.undelivered import DELIVERIES_KEPT

ARCHIVE_SECONDS = 6 * 3_600
"""So long whoever sends an archive is waited for in all: of 64 GiB, 3 MB have to come a second."""


def _allowances(value: list[str]) -> list[str]:
    # a setting that cannot be read ends the start, not the first request
    Rules.parse(value)
    return value


class ApiSettings(ServiceSettings):
    """Settings of the API, beside the ones it shares with the workers."""

    max_body_bytes: int = 256 * 1024 * 1024
    """A larger request is refused (413) before more of it is read."""
    max_archive_bytes: int = Field(64 * 2**30, gt=0)
    """The same of archives that are sent to be added to a set: these go to the blob store as they come."""
    max_arriving_bytes: int = Field(256 * 2**30, gt=0)
    """Of all archives that one process is storing, half of it for one tenant; more are answered 503."""
    max_spooled_bytes: int = Field(1024 * 1024 * 1024, gt=0)
    """Of all bodies that one process is reading, and pictures that it has fetched by URL; half of it for one
    tenant. One of more than 1 MiB beyond it is answered 503."""
    body_stall_seconds: float = Field(30, gt=0)
    """A body of which nothing came for so long is given up (408); a large one also where too little came, and
    each after 15 minutes."""
    max_json_bytes: int = 64 * 1024 * 1024
    """Of a JSON body, which is held in memory; more pictures go as multipart."""
    max_upload_images: int = 1_000
    """Pictures in one `POST /v1/images`."""
    max_image_bytes: int = 32 * 1024 * 1024
    """Of one picture sent to `/v1/images`; the workers have it too, for the pictures of jobs."""
    max_set_items: int = Field(2_000_000, gt=0)
    """Items of one image set."""
    max_request_set_items: int = Field(1_000, gt=0)
    """Items that one request adds to an image set."""
    max_job_items: int = Limits().items
    """Images or texts in one inline job."""
    max_job_labels: int = Limits().labels
    """Labels of one job."""
    max_job_prompts: int = Limits().prompts
    """Texts of all labels of one job."""
    max_job_numbers: int = Limits().numbers
    """Numbers in all vectors among the labels of one job: every claim of its work reads them."""
    max_job_output_bytes: int = Field(Limits().output_bytes, ge=0)
    """Of the arrays that one job keeps: maps, embeddings, activations. A larger job is answered 422."""
    max_wait_seconds: float = 60
    """How long a poll with `Prefer: wait` may last."""
    max_waiters: int = 2_000
    """Polls of one process that wait at a time; more are answered at once."""
    max_streams: int = 500
    """Clients of one process that follow the events of a job; more are answered 503."""
    max_exports: int = Field(64, ge=1)
    """Files of results that one process renders at a time; one more is answered 503."""
    max_key_exports: int = Field(8, ge=1)
    """Of one key in one process; one more is answered 429."""
    max_tenant_copy_bytes: int = Field(16 * 2**30, ge=0)
    """Of files of results that parts were asked for of: of more, the copies that were used longest ago go."""
    max_queue_items: int = Field(Quota().queue_items, gt=0)
    """Items that may wait or run in all; a job beyond it is answered 503."""
    max_tenant_items: int = Field(Quota().items, gt=0)
    """Items of one tenant that may wait or run; a job beyond it, or one of the next two, is answered 429."""
    max_tenant_bytes: int = Field(Quota().input_bytes, gt=0)
    """Bytes of pictures in one tenant's jobs that have not ended."""
    max_tenant_gflop: float = Field(Quota().gflop, gt=0)
    """Estimated work of one tenant that may wait or run, in GFLOP; an embedding of one picture takes some 10
    to 700, by its model. Without a limit unless given."""
    deleted_jobs_days: float = Field(DELETED_JOBS_KEPT / timedelta(days=1), ge=0)
    """So long a deleted job is answered with 410; then its id is unknown."""
    requests_per_minute: int = Field(6_000, ge=0)
    """Of a key that has no limit of its own, in each API process: behind several, the limit is as many times
    that. 0 is none. More are answered 429."""
    bad_keys_per_minute: int = Field(600, ge=0)
    """Of one address (an IPv6 network of 64 bits), by the connection itself: no header is believed. After so
    many, keys that were not good before are answered 429 without being looked up. 0 is no limit."""
    text_cache_days: float = Field(TextBudget().unused / timedelta(days=1), ge=0)
    """A label's text that was not used for so long is embedded again."""
    text_cache_bytes: int = Field(TextBudget().tenant_bytes, ge=0)
    """Vectors of labels' texts that are kept for one tenant; looked at every ten minutes."""
    max_tenant_webhook_endpoints: int = Field(20, ge=0)
    """Webhook endpoints of one tenant; another is answered 422."""
    webhook_deliveries_days: float = Field(DELIVERIES_KEPT / timedelta(days=1), ge=0)
    """Messages to webhook endpoints are shown for so long after they were delivered, or failed."""
    fetch_urls: bool = False
    """Whether jobs may name pictures by a URL, which this process then fetches."""
    fetch_picture_seconds: float = Field(FetchBounds().picture_seconds, gt=0)
    """A picture that is not there by then fails."""
    fetch_job_seconds: float = Field(FetchBounds().job_seconds, gt=0)
    """Of the pictures of one job, those fail that are not there by then; so long its submit may take."""
    fetch_at_once: int = Field(FetchBounds().at_once, ge=1)
    """Pictures that this process fetches at a time, half of them for one tenant; each is held in memory until
    it is there."""
    egress_allowed: Annotated[list[str], AfterValidator(_allowances)] = Field(default_factory=list)
    """Hosts and networks that URLs of clients may lead to beside public addresses, as JSON:
    `["127.0.0.1:9000", "10.0.0.0/8", "hooks.internal:*"]`; without a port, 80 and 443."""
    admin_session_hours: int = Field(12, ge=1, le=24 * 30)
    """So long somebody who signed in to the dashboard stays signed in."""
    history_days: int = Field(30, ge=1)
    """The charts of the dashboard show so many days."""
    metrics_token: str = Field("", repr=False)
    """Whoever sends it as `Authorization: Bearer` may read `/metrics`, from anywhere. Without one, only who
    asks from this machine may, and not through a proxy."""

    def limits(self) -> Limits:
        """How large one inline job may be."""
        return Limits(
            items=self.max_job_items,
            labels=self.max_job_labels,
            prompts=self.max_job_prompts,
            numbers=self.max_job_numbers,
            output_bytes=self.max_job_output_bytes,
        )

    def archive_bounds(self) -> Bounds:
        """How large archives may be, one and all together that a process is storing."""
        return Bounds(
            self.max_archive_bytes, ARCHIVE_SECONDS, Spool(self.max_arriving_bytes), "send it in parts"
        )

    def deleted_jobs_kept(self) -> timedelta:
        """How long it is known of a job that it was deleted."""
        return timedelta(days=self.deleted_jobs_days)

    def text_budget(self) -> TextBudget:
        """How many texts of labels are kept, and how long."""
        return TextBudget(timedelta(days=self.text_cache_days), self.text_cache_bytes)

    def history_kept(self) -> timedelta:
        """How long it is known what happened in each minute."""
        return timedelta(days=self.history_days)

    def deliveries_kept(self) -> timedelta:
        """How long messages that have ended are kept."""
        return timedelta(days=self.webhook_deliveries_days)

    def fetch_bounds(self) -> FetchBounds:
        """How much is fetched; of one job no more than a body may bring."""
        return FetchBounds(
            picture_seconds=self.fetch_picture_seconds,
            job_seconds=self.fetch_job_seconds,
            picture_bytes=self.max_image_bytes,
            job_bytes=self.max_body_bytes,
            at_once=self.fetch_at_once,
        )

    def egress_rules(self) -> Rules:
        """Where requests to URLs of clients may go."""
        return Rules.parse(self.egress_allowed)

    def quota(self) -> Quota:
        """How much may wait or run at once."""
        return Quota(
            items=self.max_tenant_items,
            input_bytes=self.max_tenant_bytes,
            gflop=self.max_tenant_gflop,
            queue_items=self.max_queue_items,
        )
