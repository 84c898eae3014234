"""The statements that move the ledger; each is executed by one verb of `jobs.leases` or `jobs.maintenance`.

Locks are taken in one order everywhere: leases, work, results, jobs by id. Whoever holds a job never waits
for work. All times are the database's.
"""

from sqlalchemy import Interval, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

CLAIM = text("""
    WITH head AS MATERIALIZED (
        SELECT id FROM work
        WHERE model = :model AND lease_token IS NULL AND run_at <= now()
        ORDER BY id LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), lease AS (
        INSERT INTO leases (worker_id, until, hard_until, ttl)
        SELECT :worker_id, now() + :ttl, now() + :hard_limit, :ttl FROM head
        RETURNING token
    ), claimed AS (
        UPDATE work SET lease_token = lease.token, attempt = work.attempt + 1
        FROM head, lease WHERE work.id = head.id
        RETURNING work.job_id, work.unit, work.attempt, lease.token
    ), tried AS (
        INSERT INTO attempts (job_id, unit, attempt, worker_id, lease_token)
        SELECT job_id, unit, attempt, :worker_id, token FROM claimed
    )
    SELECT claimed.token, claimed.job_id, claimed.unit, claimed.attempt,
           jobs.tenant, jobs.type, jobs.options, job_inputs.items
    FROM claimed
    JOIN jobs ON jobs.id = claimed.job_id
    JOIN job_inputs ON job_inputs.job_id = claimed.job_id AND job_inputs.unit = claimed.unit
""").bindparams(
    bindparam("worker_id", type_=Uuid()),
    bindparam("ttl", type_=Interval()),
    bindparam("hard_limit", type_=Interval()),
)
"""Take the oldest waiting unit of a model: lease, attempt + 1, and all that is needed to run it."""

START_JOB = text("""
    UPDATE jobs SET state = 'running', started_at = now()
    WHERE id = (
        SELECT id FROM jobs WHERE id = :job_id AND state = 'queued'
        FOR NO KEY UPDATE SKIP LOCKED
    )
""").bindparams(bindparam("job_id", type_=Uuid()))
"""Mark a claimed job running, without waiting for whoever holds it: counting will mark it anyway."""

RENEW = text("""
    UPDATE leases SET until = least(now() + ttl, hard_until)
    WHERE token = :token AND hard_until > now()
    RETURNING token
""").bindparams(bindparam("token", type_=Uuid()))
"""Extend a lease; no row means that it is lost and its work is somebody else's."""

END_LEASE = text("DELETE FROM leases WHERE token = :token RETURNING token").bindparams(
    bindparam("token", type_=Uuid())
)
"""Give up a lease; no row means that it was lost before, and nothing may be written under it."""

END_WORK = text("DELETE FROM work WHERE lease_token = :token RETURNING job_id, unit, items").bindparams(
    bindparam("token", type_=Uuid())
)
"""Remove the work done under a lease."""

RETURN_WORK = text("""
    UPDATE work
    SET lease_token = NULL, losses = losses + 1,
        run_at = now() + least(power(2, losses), 60) * interval '1 second'
    WHERE lease_token = :token
""").bindparams(bindparam("token", type_=Uuid()))
"""Put work back, to be tried again after a pause that doubles with every loss."""

END_ATTEMPT = text("""
    UPDATE attempts SET ended_at = now(), outcome = :outcome, reason = :reason
    WHERE lease_token = :token AND ended_at IS NULL
""").bindparams(bindparam("token", type_=Uuid()))
"""Close the open attempt of a lease."""

COUNT_ITEMS = text("""
    UPDATE jobs
    SET succeeded = succeeded + :succeeded,
        failed = failed + :failed,
        dropped = dropped + :dropped,
        state = CASE
            WHEN succeeded + failed + dropped + :succeeded + :failed + :dropped < total
                THEN CASE state WHEN 'cancelling' THEN state ELSE 'running' END
            WHEN state = 'cancelling' THEN 'cancelled'
            WHEN succeeded + :succeeded = total THEN 'succeeded'
            WHEN succeeded + :succeeded > 0 THEN 'partial'
            WHEN started_at IS NULL AND dropped + :dropped = total THEN 'expired'
            ELSE 'failed'
        END,
        started_at = CASE WHEN :succeeded + :failed > 0 THEN coalesce(started_at, now()) ELSE started_at END,
        ended_at = CASE
            WHEN succeeded + failed + dropped + :succeeded + :failed + :dropped = total THEN now()
        END,
        provenance = coalesce(provenance, :provenance),
        error = CASE WHEN succeeded + :succeeded = 0 THEN coalesce(error, :error) END
    WHERE id = :job_id AND succeeded + failed + dropped < total
""").bindparams(
    bindparam("job_id", type_=Uuid()),
    bindparam("provenance", type_=JSONB(none_as_null=True)),
    bindparam("error", type_=JSONB(none_as_null=True)),
)
"""Count items in the transaction that removed their work: a job ends exactly when all are counted."""

EXPIRE_LEASES = text("""
    WITH gone AS MATERIALIZED (
        SELECT token FROM leases
        WHERE (until < now() OR hard_until < now())
          -- while Postgres was down nobody could renew: give the holders one lifetime to come back
          AND pg_postmaster_start_time() + ttl < now()
        ORDER BY until LIMIT 100
        FOR UPDATE SKIP LOCKED
    ), ended AS (
        DELETE FROM leases USING gone WHERE leases.token = gone.token
    ), returned AS (
        UPDATE work SET lease_token = NULL, losses = losses + 1 FROM gone WHERE lease_token = gone.token
    ), closed AS (
        UPDATE attempts SET ended_at = now(), outcome = 'lost', reason = 'the lease ran out'
        FROM gone WHERE attempts.lease_token = gone.token AND ended_at IS NULL
    )
    SELECT token FROM gone
""")
"""Take leases that ran out from their holders, 100 at a time; their work waits again, one loss richer."""

TAKE_HOPELESS = text("""
    DELETE FROM work
    WHERE id IN (
        SELECT id FROM work WHERE lease_token IS NULL AND losses > 0 AND losses >= :max_losses
        ORDER BY id LIMIT 100
        FOR UPDATE SKIP LOCKED
    )
    RETURNING job_id, unit
""")
"""Remove work that was lost too often; its items are to be failed in the same transaction."""
