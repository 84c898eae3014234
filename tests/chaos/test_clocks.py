"""Workers whose clocks are wrong: times of the ledger are the database's, so nothing comes of it.

The clock of Python is what is shifted, for all of a worker's processes, by a `sitecustomize` that comes first
on their path: `time.time` and its relatives. The kernel's stays as it is.
"""

import os
from pathlib import Path

from models.types import Priority
from tests.chaos.conftest import Chaos

HOUR = 3_600
SHIFTED = """import os, time
_shift = float(os.environ["LENSQUEUE_CHAOS_SHIFT_SECONDS"])
_time, _time_ns, _gmtime, _localtime = time.time, time.time_ns, time.gmtime, time.localtime
time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + int(_shift * 1e9)
time.gmtime = lambda seconds=None: _gmtime(time.time() if seconds is None else seconds)
time.localtime = lambda seconds=None: _localtime(time.time() if seconds is None else seconds)
"""


def test_workers_whose_clocks_are_an_hour_off_work_as_any(chaos: Chaos, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIFTED)
    path = os.pathsep.join([str(tmp_path), str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    for name, shift in (("ahead", HOUR), ("behind", -HOUR)):
        chaos.add_worker(
            name,
            PYTHONPATH=path,
            LENSQUEUE_CHAOS_SHIFT_SECONDS=str(shift),
            LENSQUEUE_LEASE_SECONDS="3",
            LENSQUEUE_CHAOS_BATCH_MS="200",
            LENSQUEUE_SLICE_SECONDS="2",
        )
    jobs = [chaos.order(["a text"] * 200) for _ in range(3)]
    jobs += [chaos.order(["sleep 5"], Priority.INTERACTIVE), chaos.order(["sleep 5"], Priority.INTERACTIVE)]
    chaos.settle()
    assert {chaos.job(job_id).state for job_id in jobs} == {"succeeded"}
    assert chaos.count("SELECT count(*) FROM attempts WHERE outcome <> 'completed'") == 0
    assert chaos.count("SELECT count(DISTINCT worker_id) FROM attempts") == 2
    # that they were off
    assert chaos.count(
        """SELECT bool_and(abs(extract(epoch FROM now()) - (provenance ->> 'loaded_at')::float) > :far)
           FROM jobs""",
        far=HOUR / 2,
    )
    assert chaos.count("SELECT count(*) FROM jobs WHERE abs(extract(epoch FROM now() - ended_at)) > 120") == 0
