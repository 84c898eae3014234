"""The statements that move the ledger; each is executed by one verb of `jobs.leases` or `jobs.maintenance`.

Locks are taken in one order everywhere: leases, work, results, cached results, jobs by id. Whoever holds a
job never waits for work. All times are the database's.
"""

from sqlalchemy import BigInteger, Boolean, DateTime, Integer, Interval, Text, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

LONELY_LOSSES = 2
"""Work that was lost so often is claimed alone: whatever is wrong with it, no other work goes with it."""
MAX_STRIKES = 3
"""Work that struck so often fails, that of many items is parted at the first; nobody claims it meanwhile."""

READ_BY_INDEX = text("""
    SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
           set_config('enable_seqscan', 'off', true)
""")
"""For the claim after it: a planner that has not seen yet how much waits would read and sort all of it."""

CLAIM = text("""
    WITH head AS MATERIALIZED (
        SELECT id, items, vtime, batch_key, item_bytes, losses < :lonely_losses AND strikes = 0 AS sociable
        FROM work
        WHERE model = :model AND lease_token IS NULL AND run_at <= now()
          AND (strikes = 0 OR (items = 1 AND strikes < :max_strikes))
          AND NOT EXISTS (SELECT 1 FROM queues WHERE model = :model AND paused_at IS NOT NULL)
        ORDER BY vtime, id LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), first AS MATERIALIZED (
        -- not in the condition above: what may not be taken must not be passed over either
        SELECT * FROM head WHERE (sociable OR NOT :beside) AND (items = 1 OR NOT :single)
    ), mates AS MATERIALIZED (
        -- by a scalar, not by a join: the planner cannot know that it would be with one row, and reads all
        -- that waits instead of the index of what may share a batch
        SELECT id FROM work
        WHERE model = :model AND lease_token IS NULL AND items = 1 AND run_at <= now()
          AND batch_key = (SELECT batch_key FROM first WHERE items = 1 AND sociable)
          AND losses < :lonely_losses AND strikes = 0
          AND id <> (SELECT id FROM first)
        ORDER BY vtime, id
        LIMIT (
            -- never more than are taken: locking ten to take one starves the next worker
            SELECT least(:max_items, greatest(:max_bytes / greatest(item_bytes, 1), 1)) - 1 FROM first
        )
        FOR UPDATE SKIP LOCKED
    ), lease AS (
        INSERT INTO leases (worker_id, until, hard_until, ttl)
        SELECT :worker_id, now() + :ttl, now() + :hard_limit, :ttl FROM first
        RETURNING token
    ), claimed AS (
        UPDATE work SET lease_token = lease.token, attempt = work.attempt + 1
        FROM lease WHERE work.id IN (SELECT id FROM first UNION ALL SELECT id FROM mates)
        RETURNING work.id, work.job_id, work.unit, work.attempt, work.vtime, work.cost, work.item_bytes,
                  work.losses < :lonely_losses AND work.strikes = 0 AS sociable, lease.token
    ), tried AS (
        INSERT INTO attempts (job_id, unit, attempt, worker_id, lease_token)
        SELECT job_id, unit, attempt, :worker_id, token FROM claimed
    )
    SELECT claimed.token, claimed.job_id, claimed.unit, claimed.attempt, claimed.vtime, claimed.cost,
           claimed.item_bytes, claimed.sociable, jobs.tenant, jobs.type, jobs.options, job_inputs.items,
           jobs.request_id, jobs.traceparent
    FROM claimed
    JOIN jobs ON jobs.id = claimed.job_id
    JOIN job_inputs ON job_inputs.job_id = claimed.job_id AND job_inputs.unit = claimed.unit
    ORDER BY claimed.vtime, claimed.id
""").bindparams(
    bindparam("worker_id", type_=Uuid()),
    bindparam("ttl", type_=Interval()),
    bindparam("hard_limit", type_=Interval()),
    bindparam("max_items", type_=BigInteger()),
    bindparam("max_bytes", type_=BigInteger()),
    bindparam("beside", type_=Boolean()),
    bindparam("single", type_=Boolean()),
)
"""Take the first waiting unit of a model and, where it is a single item, others that may share its batch.

One lease for all of them; attempt + 1 each, and all that is needed to run them.
"""

LOOK = text("""
    SELECT items = 1 AND losses < :lonely_losses AND strikes = 0
    FROM work
    WHERE model = :model AND lease_token IS NULL AND run_at <= now()
      AND (strikes = 0 OR (items = 1 AND strikes < :max_strikes))
      AND NOT EXISTS (SELECT 1 FROM queues WHERE model = :model AND paused_at IS NOT NULL)
    ORDER BY vtime, id LIMIT 1
""")
"""Whether what a claim would take first is a single item that may be run beside other work."""

RAISE_FLOOR = text("""
    UPDATE queues SET floor = :vtime
    WHERE model = (
        SELECT model FROM queues WHERE model = :model AND floor < :vtime
        FOR NO KEY UPDATE SKIP LOCKED
    )
""")
"""Tell how far the queue has come; whoever finds it locked leaves it to the next claim."""

START_JOBS = text("""
    UPDATE jobs SET state = 'running', started_at = now(), run_until = now() + run_timeout
    WHERE id IN (
        SELECT id FROM jobs WHERE id = ANY(:job_ids) AND state = 'queued'
        ORDER BY id
        FOR NO KEY UPDATE SKIP LOCKED
    )
""").bindparams(bindparam("job_ids", type_=ARRAY(Uuid())))
"""Mark claimed jobs running, without waiting for whoever holds one: counting will mark it anyway."""

RENEW = text("""
    WITH renewed AS (
        UPDATE leases SET until = least(now() + ttl, hard_until)
        WHERE token = :token AND hard_until > now()
        RETURNING token
    )
    SELECT bool_and(jobs.state = 'cancelling')
    FROM renewed
    JOIN work ON work.lease_token = renewed.token
    JOIN jobs ON jobs.id = work.job_id
    HAVING count(*) > 0
""").bindparams(bindparam("token", type_=Uuid()))
"""Extend a lease: whether all of its jobs are being cancelled; no row means that it is lost."""

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
    SET lease_token = NULL, losses = losses + :losses,
        -- with jitter: units that failed together need not meet again
        run_at = now() + :losses * least(power(2, losses), 60) * (0.75 + random() / 2) * interval '1 second'
    WHERE lease_token = :token
""").bindparams(bindparam("token", type_=Uuid()))
"""Put work back, after a pause that doubles with every loss; at once where none is counted."""

RETURN_UNITS = text("""
    WITH returned AS (
        UPDATE work
        SET lease_token = NULL, losses = losses + 1,
            run_at = now() + least(power(2, losses), 60) * (0.75 + random() / 2) * interval '1 second'
        FROM unnest(:job_ids, :units, :reasons) AS one (job_id, unit, reason)
        WHERE work.lease_token = :token AND work.job_id = one.job_id AND work.unit = one.unit
        RETURNING work.job_id, work.unit, work.attempt, one.reason
    )
    UPDATE attempts SET ended_at = now(), outcome = 'released', reason = returned.reason
    FROM returned
    WHERE attempts.job_id = returned.job_id AND attempts.unit = returned.unit
      AND attempts.attempt = returned.attempt
""").bindparams(
    bindparam("token", type_=Uuid()),
    bindparam("job_ids", type_=ARRAY(Uuid())),
    bindparam("units", type_=ARRAY(Integer())),
    bindparam("reasons", type_=ARRAY(Text())),
)
"""Put some units of a lease back as RETURN_WORK does, each with its reason; the others stay with it."""

END_ATTEMPT = text("""
    UPDATE attempts SET ended_at = now(), outcome = :outcome, reason = :reason
    WHERE lease_token = :token AND ended_at IS NULL
""").bindparams(bindparam("token", type_=Uuid()))
"""Close the open attempt of a lease."""

STORE_RESULTS = text("""
    INSERT INTO results (job_id, index, state, item, payload, error)
    SELECT job_id, (item ->> 'index')::integer,
           CASE WHEN error IS NULL THEN 'succeeded' ELSE 'failed' END,
           -- what the row says itself, and what only the worker had to know, stays with the inputs
           item - '{index,sha256,error}'::text[], payload, error
    FROM jsonb_to_recordset(:results) AS new (job_id uuid, item jsonb, payload jsonb, error jsonb)
""").bindparams(bindparam("results", type_=JSONB()))
"""Insert results, many by one statement: by one each, a unit of 128 takes more than twice the time."""

HOLD_JOBS = text("SELECT id FROM jobs WHERE id = ANY(:job_ids) ORDER BY id FOR NO KEY UPDATE").bindparams(
    bindparam("job_ids", type_=ARRAY(Uuid()))
)
"""Take the jobs that are to be counted, in the order of their ids."""

COUNT_ITEMS = text("""
    WITH counted AS (
        SELECT id, total, state, started_at,
               jobs.succeeded + new.succeeded AS succeeded,
               jobs.failed + new.failed AS failed,
               jobs.dropped + new.dropped AS dropped,
               jobs.succeeded + jobs.failed + jobs.dropped
                   + new.succeeded + new.failed + new.dropped = total AS ends,
               new.succeeded + new.failed > 0 AS ran,
               new.dropped > 0 AS drops,
               new.provenance, new.error
        FROM jobs JOIN unnest(
            :job_ids, :succeeded, :failed, :dropped, :provenances, :errors
        ) AS new (job_id, succeeded, failed, dropped, provenance, error) ON new.job_id = jobs.id
        WHERE jobs.succeeded + jobs.failed + jobs.dropped < total
    ), updated AS (
        UPDATE jobs
        SET succeeded = counted.succeeded,
            failed = counted.failed,
            dropped = counted.dropped,
            state = CASE
                WHEN NOT counted.ends AND counted.state = 'queued' AND counted.ran THEN 'running'
                WHEN NOT counted.ends THEN counted.state
                WHEN counted.state = 'cancelling' THEN 'cancelled'
                WHEN counted.succeeded = counted.total THEN 'succeeded'
                WHEN counted.succeeded > 0 THEN 'partial'
                WHEN counted.started_at IS NULL AND counted.dropped = counted.total THEN 'expired'
                ELSE 'failed'
            END,
            started_at = CASE WHEN counted.ran THEN coalesce(jobs.started_at, now()) ELSE jobs.started_at END,
            run_until = CASE
                WHEN counted.ran THEN coalesce(jobs.run_until, now() + jobs.run_timeout) ELSE jobs.run_until
            END,
            ended_at = CASE WHEN counted.ends THEN now() END,
            expires_at = CASE WHEN counted.ends THEN now() + jobs.result_ttl END,
            provenance = coalesce(jobs.provenance, counted.provenance),
            error = CASE
                -- that its time was over is said whatever else happened; why an item failed, only of a job
                -- in which none succeeded
                WHEN counted.drops AND counted.error IS NOT NULL THEN counted.error
                WHEN jobs.error ->> 'code' IN ('start-deadline', 'run-timeout') THEN jobs.error
                WHEN counted.succeeded = 0 THEN coalesce(jobs.error, counted.error)
            END
        FROM counted
        WHERE jobs.id = counted.id
        RETURNING jobs.id, jobs.webhook_endpoint_id, counted.ends,
                  counted.succeeded + counted.failed + counted.dropped AS settled
    ), told AS (
        -- with the end itself: it is told exactly when it is true
        INSERT INTO webhook_deliveries (endpoint_id, job_id, event)
        SELECT webhook_endpoint_id, id, 'job.ended' FROM updated
        WHERE ends AND webhook_endpoint_id IS NOT NULL
    )
    INSERT INTO job_events (job_id, settled, unit)
    SELECT updated.id, updated.settled - stored.behind, stored.unit
    FROM updated JOIN unnest(:unit_job_ids, :units, :behind) AS stored (job_id, unit, behind)
        ON stored.job_id = updated.id
""").bindparams(
    bindparam("job_ids", type_=ARRAY(Uuid())),
    bindparam("succeeded", type_=ARRAY(Integer())),
    bindparam("failed", type_=ARRAY(Integer())),
    bindparam("dropped", type_=ARRAY(Integer())),
    bindparam("provenances", type_=ARRAY(JSONB(none_as_null=True))),
    bindparam("errors", type_=ARRAY(JSONB(none_as_null=True))),
    bindparam("unit_job_ids", type_=ARRAY(Uuid())),
    bindparam("units", type_=ARRAY(Integer())),
    bindparam("behind", type_=ARRAY(Integer())),
)
"""Count items in the transaction that removed their work: a job ends exactly when all are counted.

Units of which results were stored get their place in the order of counting: `behind` each come so many items
of the same job in this statement. The jobs are held already (HOLD_JOBS): nobody counts on them in between.
"""

DROP_WORK = text("""
    DELETE FROM work
    WHERE id IN (
        SELECT id FROM work WHERE job_id = :job_id AND lease_token IS NULL
        ORDER BY id LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    RETURNING items, cost
""").bindparams(bindparam("job_id", type_=Uuid()))
"""Remove work of a job that nobody holds; its items are to be counted as dropped in the same transaction."""

CANCEL = text("""
    UPDATE jobs SET state = 'cancelling'
    WHERE id = :job_id AND tenant = :tenant AND state IN ('queued', 'running')
    RETURNING id
""").bindparams(bindparam("job_id", type_=Uuid()))
"""Mark a job as being cancelled; its waiting work is dropped after the commit, its running work finishes."""

EXPIRE_LEASES = text("""
    WITH gone AS MATERIALIZED (
        SELECT token FROM leases
        WHERE (
            until < now() OR hard_until < now()
            -- the clock was set back: whoever lives has renewed by the new one. Not by now(), when this
            -- transaction began: who renewed since then, and committed, would seem to come from the future
            OR until > clock_timestamp() + ttl
          )
          -- while Postgres was away nobody could renew: give the holders one lifetime to come back
          AND greatest(pg_postmaster_start_time(), :away_until) + ttl < now()
        ORDER BY until LIMIT 100
        FOR UPDATE SKIP LOCKED
    ), ended AS (
        DELETE FROM leases USING gone WHERE leases.token = gone.token
    ), returned AS (
        UPDATE work SET lease_token = NULL, losses = losses + 1, run_at = now()
        FROM gone WHERE lease_token = gone.token
    ), closed AS (
        UPDATE attempts SET ended_at = now(), outcome = 'lost', reason = 'the lease ran out'
        FROM gone WHERE attempts.lease_token = gone.token AND ended_at IS NULL
    )
    SELECT token FROM gone
""").bindparams(bindparam("away_until", type_=DateTime(timezone=True)))
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

REPORT_CRASH = text("""
    WITH gone AS MATERIALIZED (
        SELECT token FROM leases WHERE worker_id = :worker_id
        ORDER BY token
        -- waits, unlike the others: of a child that died in the midst of a transaction the locks are not gone
        -- at once, and a crash that was passed over could never be judged
        FOR UPDATE
    ), ended AS (
        DELETE FROM leases USING gone WHERE leases.token = gone.token
    ), returned AS (
        UPDATE work SET lease_token = NULL, losses = losses + 1, run_at = now()
        FROM gone WHERE lease_token = gone.token
    ), closed AS (
        -- what only lay there when it happened is a loss, and not to blame
        UPDATE attempts SET ended_at = now(), reason = :reason, outcome = CASE
            WHEN :crashed AND attempts.lease_token = :running THEN 'crashed' ELSE 'lost'
        END
        FROM gone WHERE attempts.lease_token = gone.token AND ended_at IS NULL
    )
    SELECT token FROM gone
""").bindparams(
    bindparam("worker_id", type_=Uuid()),
    bindparam("crashed", type_=Boolean()),
    bindparam("running", type_=Uuid()),
)
"""Take what a worker held when its child died; its work waits again at once, one loss richer."""

JUDGE_CRASHES = text("""
    WITH judged AS (
        UPDATE attempts SET judged = true
        WHERE worker_id = :worker_id AND outcome = 'crashed' AND NOT judged
        RETURNING job_id, unit, lease_token
    ), suspects AS (
        SELECT job_id, unit, bool_or(alone) AS alone
        FROM (SELECT *, count(*) OVER (PARTITION BY lease_token) = 1 AS alone FROM judged) AS counted
        GROUP BY job_id, unit
    )
    -- of many items at most one is to blame, and more than the first strike is for it alone: else three
    -- workers that crash on one batch before any canary has spoken would fail all of it
    UPDATE work SET strikes = CASE
        WHEN suspects.alone AND items = 1 THEN strikes + 1 ELSE greatest(strikes, 1)
    END
    FROM suspects
    WHERE :guilty AND work.job_id = suspects.job_id AND work.unit = suspects.unit
""").bindparams(bindparam("worker_id", type_=Uuid()))
"""The canary of a worker has spoken: what it held when it crashed gets a strike, or is acquitted."""

TAKE_STRUCK = text("""
    DELETE FROM work
    WHERE id IN (
        SELECT id FROM work
        WHERE lease_token IS NULL AND strikes > 0 AND (items > 1 OR strikes >= :max_strikes)
        ORDER BY id LIMIT 100
        FOR UPDATE SKIP LOCKED
    )
    RETURNING job_id, unit, model, items, vtime, cost, batch_key, item_bytes, losses, strikes
""")
"""Remove work that killed a healthy worker: many items are to be tried one by one, one item is to fail."""
