"""What a submit would come to: refused as it would be, and nothing of it kept."""

from collections.abc import Sequence

from api.deps import Services
from api.schemas import estimates as schema
from api.submissions import named_images
from api.uploads import Upload
from jobs import endpoints, estimates
from jobs.admission import admit
from jobs.submission import Submission


async def estimate_job(
    services: Services, tenant: str, submission: Submission, uploads: Sequence[Upload]
) -> schema.EstimateView:
    """Admit the job, look around, and undo it.

    Raises:
        UnknownImageError: an id names no image of the tenant.
        QueueFullError, QuotaExceededError, OverQuotaError: there is no room for it.
        UnknownWebhookEndpointError, WebhookEndpointNotEnabledError: its end could not be told.
        DomainError: it is a rescore of a job that has not, or no longer, what it needs.
    """
    if submission.source is not None:
        submission.source.check(services.catalog)
    named = await named_images(services, tenant, submission)
    input_bytes = submission.source.input_bytes if submission.source else 0
    input_bytes += sum(upload.image_bytes for upload in uploads)
    input_bytes += sum(image.image_bytes for image in named.values())
    async with services.sessions() as session:
        if submission.webhook_endpoint_id is not None:
            await session.run_sync(endpoints.check_wanted, tenant, submission.webhook_endpoint_id)
        # undone at once: the clock of the flow is not to be held while the queue is looked at
        charged = await session.begin_nested()
        admission = await session.run_sync(
            admit,
            tenant,
            submission,
            services.catalog,
            services.settings.quota(),
            input_bytes=input_bytes,
            waiting_items=services.backlog.items,
        )
        await charged.rollback()
        found = await session.run_sync(
            estimates.estimate, submission, admission, services.catalog.find(submission.model)
        )
        await session.rollback()
    return schema.view(submission.model, found)
