"""What each room is for, and in the large ones which modules are about one subject."""

from typing import Final

ROOMS: Final = {
    "api": "The HTTP door: parse, one verb, render; it opens and commits transactions.",
    "api/dashboard": "Pages under `/admin` for people, over the same verbs.",
    "api/dashboard/views": "The pages, a file a subject.",
    "api/exports": "Results as files, rendered when they are asked for.",
    "api/routes": "The operations, a file a resource.",
    "api/schemas": "The shapes on the wire, a file a resource.",
    "worker": "The door that the model is behind: claim, decode, forward, lens, store.",
    "cli": "The command `lensqueue`: jobs through the client, administration through `jobs/`.",
    "analysis": "What results say, as pages and files.",
    "analysis/set_report": "The report of an image set: its page and its charts.",
    "analysis/sets": "The numbers about an image set, and the schemas of the files that say them.",
    "jobs": "The verbs of the domain: no web framework, no torch, and none of them commits.",
    "models": "The tables, never neural networks.",
    "engine": "Numerics: SigLIP and what is read of it, layer by layer.",
    "engine/runtimes": "What runs the forward pass: PyTorch as it is, compiled, or OpenVINO.",
    "pictures": "Bytes to pixels and back; no torch.",
    "embedded": "Postgres and Valkey out of wheels, for one machine without root.",
    "client/src/lensqueue_client": "The Python client, which is installed alone.",
    "demo": "The demo model, its pictures, and what they are made with.",
    "demo/recipe": "How the demo model was trained.",
    "benchmarks": "Measurements; their results are in `benchmarks/results/`.",
    "benchmarks/bulk": "Measurements of image sets.",
    "benchmarks/dashboard": "Measurements of the dashboard's pages over a million jobs.",
    "deploy": "What containers and clusters are made with.",
    "handbook": "Writes these pages.",
}
SUBJECTS: Final = {
    "api": {
        "The application": """
            app settings deps middleware exchange lookup errors methods parameters shutdown""",
        "Its document": "openapi responses links",
        "Bodies on their way in": "bodies parts arrivals uploads fetching spool room turns",
        "Requests that make or end something": """
            once submissions estimating set_items analysing searching retrying cancellation writing
            refunds backlog inviting""",
        "Answers": "negotiation conditional ranges preferences stored drawing",
        "Following": "waiting following streams",
        "Webhooks": "verification courier",
        "Limits and measures": "rate_limits usage metrics readings",
    },
    "jobs": {
        "A job comes in": """
            submission submit naming estimates pricing admission reservations storing units idempotency
            origin over_sets rescore""",
        "Its pictures": "images remote egress addresses drafts",
        "The queue": "broker fairness queues leases transitions recovery workers maintenance",
        "Its end before it is done, and after": """
            cancel deadlines retry actions acting deletion retention""",
        "What it says": "queries outlook asked events listing job_pages",
        "What it found": """
            blobs objects outputs maps exports files copies filling tables set_tables text_cache
            result_cache""",
        "Image sets": "image_sets adding copying sealing",
        "Ingesting": """
            ingesting ingested sources unpacking archives members tars zips s3 shards manifests file_index""",
        "Jobs that an analyst does": """
            analysis_jobs set_jobs summaries pairs indexing vectors searches nearest""",
        "Webhooks": "endpoints messages deliveries undelivered",
        "Who": "tenants keys usage accounts audit",
        "What operators look at": "charts history item_counts changes fleet queue_overview",
        "Every process": "settings errors logs tracing",
    },
    "worker": {
        "The process and its child": """
            __main__ settings app pool runtime engines memory heartbeat tally oversight running deaths
            ready metrics stages""",
        "A claim": """
            tasks time_slice claims batch passage compute rescoring passes steps pace canary labels
            answers reuse payloads outputs tables keeping""",
        "Decoding": """
            feed decoding decode_pool feeding decoding_process frames decoder confinement syscalls errors""",
        "An analyst": """
            analyst_tasks analyst analyst_runtime analyst_handlers ingest summary label_maps pairs""",
    },
}
"""Modules by subject; each stands in one, or the page is not written."""
