"""What a page of a batch's list is told again and again: the verdicts on the dubs that it shows, and how far the whole batch is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dags.review_room.list_view import PAGE_ROWS, RowView, dub_of, row_views
from dags.review_room.material import FoundBatch
from dags.review_room.verdicts import GivenVerdict

LONGEST_KEY = 100
"""Characters of a key (schemas.review.item_key)."""


class ShownKeys(BaseModel):
    """The dubs that a page shows. By their keys, not by the page's number: dubs move between pages as a batch grows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Annotated[str, Field(max_length=LONGEST_KEY)], ...] = Field(max_length=PAGE_ROWS)


class Progress(BaseModel):
    """How far a batch is. rows: the dubs that were asked for, without those that it does not list."""

    decided: int
    dubs: int
    rows: list[RowView]


def progress(batch: FoundBatch, given: list[GivenVerdict], shown: ShownKeys) -> Progress:
    """Counts over the whole batch, and rows of what a page shows: however long the batch is, each window is told as little."""
    if batch.content is None:
        return Progress(decided=0, dubs=0, rows=[])
    on_dubs = set(map(dub_of, given))
    listed, keys = batch.content.rows, set(shown.keys)
    rows = tuple(row for row in listed if row.key in keys)
    part = replace(batch, content=batch.content.model_copy(update={"rows": rows}))
    return Progress(decided=sum(dub_of(row) in on_dubs for row in listed), dubs=len(listed), rows=row_views(part, given))


def page_of(rows: Sequence[RowView], key: str) -> int | None:
    """The page, from 1, on which a dub is listed; None: it is not listed."""
    return next((place // PAGE_ROWS + 1 for place, row in enumerate(rows) if row.key == key), None)
