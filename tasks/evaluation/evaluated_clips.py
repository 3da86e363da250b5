"""What an evaluation left: its rows, read again without the libraries that made them."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import StoreError
from schemas.locations import without_secrets
from schemas.tables import EVALUATED_CLIPS
from tasks import places

CLIPS_TABLE, SUMMARY = "clips.parquet", "summary.json"
Row = dict[str, Any]
"""Of the table of clips: a clip and a side."""


def read_clips(out: str) -> list[Row]:
    """The rows of an evaluation. StoreError when they are not there or cannot be read."""
    location = places.join(out, CLIPS_TABLE)
    try:
        return list(pq.read_table(pa.BufferReader(places.read_bytes(location)), schema=EVALUATED_CLIPS).to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"There is no evaluation at {without_secrets(out)}: {CLIPS_TABLE} cannot be read.") from error
