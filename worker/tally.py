"""What this worker finished and has not told yet."""

import threading
from collections import defaultdict
from collections.abc import Sequence

from jobs.item_counts import Finished
from jobs.leases import Claim, UnitResult
from worker.metrics import ITEMS

Counts = dict[str, dict[str, Finished]]
"""By model, then by tenant."""


class Tally:
    """Counted where work is completed, told by the heartbeat: two threads."""

    def __init__(self) -> None:
        self._counts: Counts = {}
        self._lock = threading.Lock()

    def count(self, model: str, claim: Claim, results: Sequence[UnitResult]) -> None:
        """Results of this claim were stored."""
        tenants = {unit.job_id: unit.tenant for unit in claim.units}
        done: dict[str, Finished] = defaultdict(Finished)
        for result in results:
            failed = sum(item.error is not None for item in result.items)
            one = done[tenants[result.job_id]]
            one.failed += failed
            one.succeeded += len(result.items) - failed
            ITEMS.labels("failed").inc(failed)
            ITEMS.labels("succeeded").inc(len(result.items) - failed)
        self.put({model: done} if done else {})

    def take(self) -> Counts:
        """All that was counted; whoever cannot tell it puts it back."""
        with self._lock:
            taken, self._counts = self._counts, {}
        return taken

    def put(self, counts: Counts) -> None:
        """Add counts."""
        with self._lock:
            for model, of_model in counts.items():
                known = self._counts.setdefault(model, defaultdict(Finished))
                for tenant, finished in of_model.items():
                    known[tenant].succeeded += finished.succeeded
                    known[tenant].failed += finished.failed
