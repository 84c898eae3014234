"""What happened to a job, in the order in which its items were counted; statements only."""

from sqlalchemy import Integer, Uuid, bindparam, text

FINISHED = text("""
    WITH told AS MATERIALIZED (
        -- with the first unit that fills the page, however large the units are and whatever was dropped
        SELECT settled, unit FROM job_events
        WHERE job_id = :job_id AND settled > :after AND settled <= coalesce(
            (SELECT min(settled) FROM job_events WHERE job_id = :job_id AND settled >= :after + :limit),
            2147483647
        )
    ), places AS MATERIALIZED (
        SELECT (given ->> 'index')::integer AS index,
               told.settled - jsonb_array_length(items)
                   + row_number() OVER (PARTITION BY told.unit ORDER BY (given ->> 'index')::integer) AS place
        FROM told
        JOIN job_inputs ON job_inputs.job_id = :job_id AND job_inputs.unit = told.unit
        CROSS JOIN jsonb_array_elements(items) AS given
    ), page AS MATERIALIZED (
        -- before the results are looked at: their payloads may be large
        SELECT place, index FROM places WHERE place > :after ORDER BY place LIMIT :limit
    )
    SELECT page.place, page.index, results.state, results.item ->> 'custom_id' AS custom_id,
           results.error ->> 'code' AS error_code, results.payload -> 'top' ->> 'label' AS top_label
    FROM page LEFT JOIN results ON results.job_id = :job_id AND results.index = page.index
    ORDER BY page.place
""").bindparams(
    bindparam("job_id", type_=Uuid()),
    bindparam("after", type_=Integer()),
    bindparam("limit", type_=Integer()),
)
"""The items counted behind a place, in the order of counting: at least one if there are any.

A unit that was counted as the job's `settled` came to some number has the places up to that; its items have
them by index. Jobs are counted one at a time, so whoever sees a place sees all before it. An item whose
result was removed has no state.
"""
