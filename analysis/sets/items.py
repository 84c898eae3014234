"""What a summary knows of each item: columns for the Parquet file of items."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.summary import Study

SLICE_ROWS: Final = 25_000
ITEM_COLUMNS: Final = pa.schema(
    [
        ("index", pa.int64()),
        ("top_final", pa.string()),
        ("settle_layer", pa.int32()),
        ("settle_correct_layer", pa.int32()),
        ("flips", pa.int32()),
        ("dup_group", pa.int64()),
        ("outlier_score", pa.float32()),
    ]
)
"""Of items that succeeded, ascending by `index`.

- `top_final`: the top label at the final layer.
- `settle_layer`: the smallest layer from which the top label is the final one; `settle_correct_layer`: from
  which it is the true one, null where the final one is not, or where the true one is not known.
- `flips`: changes of the top label between consecutive layers.
- `dup_group`: `index` of the first item of the group of duplicates and near-duplicates; null of one alone.
- `outlier_score`: local outlier factor of the final embedding; null where too few images were there.
"""


def item_columns(facts: SetFacts, studied: Study) -> Iterator[pa.RecordBatch]:
    """The columns in batches of at most 25,000 rows."""
    layers = np.asarray(facts.layers, dtype=np.int32)
    names = pa.array(facts.labels, pa.string())
    for start in range(0, len(facts.index), SLICE_ROWS):
        part = slice(start, start + SLICE_ROWS)
        top, true = studied.scores.top[part], facts.true_label[part]
        settle = layers[studied.scores.settled[part]]
        wrong = (true == UNLABELLED) | (top[:, -1] != true)
        group = studied.grouping.item_group[part]
        outlier = np.append(studied.outliers, np.float32(np.nan))[studied.images.of_row[part]]
        yield pa.record_batch(
            [
                pa.array(facts.index[part]),
                names.take(pa.array(top[:, -1])),
                pa.array(settle),
                pa.array(settle, mask=wrong),
                pa.array((np.diff(top, axis=1) != 0).sum(axis=1).astype(np.int32)),
                pa.array(group, mask=group < 0),
                pa.array(outlier, mask=np.isnan(outlier)),
            ],
            schema=ITEM_COLUMNS,
        )
