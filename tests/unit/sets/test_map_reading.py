"""Maps of labels as they come from the tables of a job."""

from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from analysis.sets.map_reading import MapReader
from jobs.tables import TOLD


def table(values: dict[int, float]) -> pa.Table:
    """With maps of one label on two by two patches, each of one number."""
    maps = pa.array([[value] * 4 for value in values.values()], pa.list_(pa.float16()))
    told = {"maps": {"grid": [2, 2], "layer": 6, "method": "value"}}
    made = pa.table({"index": pa.array(values, pa.int32()), "label_maps": maps})
    return made.replace_schema_metadata({TOLD: orjson.dumps(told)})


def test_of_an_item_in_two_tables_the_newest_map_counts(tmp_path: Path) -> None:
    reader = MapReader(np.array([3, 5]), tmp_path)
    for each in (table({3: 0.25, 5: 0.5}), table({5: 0.75})):
        reader.take(each)
    maps = reader.taken(1)
    assert maps is not None
    rows, first = np.unique(maps.rows, return_index=True)
    assert rows.tolist() == [0, 1]
    assert maps.values[first, 0, 0, 0].tolist() == [0.25, 0.75]
