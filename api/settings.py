"""What the API process reads from the environment."""

from datetime import timedelta

from pydantic import Field

from jobs.admission import Quota
from jobs.retention import DELETED_JOBS_KEPT
from jobs.settings import ServiceSettings
from jobs.submit import Limits
from jobs.text_cache import TextBudget


class ApiSettings(ServiceSettings):
    """Settings of the API, beside the ones it shares with the workers."""

    max_body_bytes: int = 256 * 1024 * 1024
    """A larger request is refused (413) before more of it is read."""
    max_json_bytes: int = 64 * 1024 * 1024
    """Of a JSON body, which is held in memory; more pictures go as multipart."""
    max_upload_images: int = 1_000
    """Pictures in one `POST /v1/images`."""
    max_image_bytes: int = 32 * 1024 * 1024
    """Of one picture sent to `/v1/images`; the workers have it too, for the pictures of jobs."""
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
    text_cache_days: float = Field(TextBudget().unused / timedelta(days=1), ge=0)
    """A label's text that was not used for so long is embedded again."""
    text_cache_bytes: int = Field(TextBudget().tenant_bytes, ge=0)
    """Vectors of labels' texts that are kept for one tenant; looked at every ten minutes."""

    def limits(self) -> Limits:
        """How large one inline job may be."""
        return Limits(
            items=self.max_job_items,
            labels=self.max_job_labels,
            prompts=self.max_job_prompts,
            numbers=self.max_job_numbers,
            output_bytes=self.max_job_output_bytes,
        )

    def deleted_jobs_kept(self) -> timedelta:
        """How long it is known of a job that it was deleted."""
        return timedelta(days=self.deleted_jobs_days)

    def text_budget(self) -> TextBudget:
        """How many texts of labels are kept, and how long."""
        return TextBudget(timedelta(days=self.text_cache_days), self.text_cache_bytes)

    def quota(self) -> Quota:
        """How much may wait or run at once."""
        return Quota(
            items=self.max_tenant_items,
            input_bytes=self.max_tenant_bytes,
            gflop=self.max_tenant_gflop,
            queue_items=self.max_queue_items,
        )
