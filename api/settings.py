"""What the API process reads from the environment."""

from jobs.settings import ServiceSettings
from jobs.submit import Limits


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
    max_wait_seconds: float = 60
    """How long a poll with `Prefer: wait` may last."""
    max_waiters: int = 2_000
    """Polls of one process that wait at a time; more are answered at once."""

    def limits(self) -> Limits:
        """How large one inline job may be."""
        return Limits(items=self.max_job_items, labels=self.max_job_labels)
