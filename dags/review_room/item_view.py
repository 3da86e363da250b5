"""What the page of a dub is told of it."""

from typing import Any

from dags.review_room.redo_form import redo_form
from dags.review_room.verdicts import GivenVerdict
from dags.review_room.words import Language, metric_meaning, reason_words
from schemas.gate import Gate
from schemas.locations import without_secrets
from schemas.review import ReviewItem

VIDEOS = ("source", "dub")
"""The videos of an item, as its addresses name them."""


def video_location(item: ReviewItem, which: str) -> str | None:
    """Where the source or the dub lies as it is played. None: an item has no such video."""
    if which not in VIDEOS:
        return None
    return item.source if which == "source" else item.dub_preview or item.dub


def item_view(item: ReviewItem, given: list[GivenVerdict], language: Language, run: Gate) -> dict[str, Any]:
    """An item in the words of a language: moments the worst first, metrics with what they mean, verdicts the newest first. run: the gate of the whole batch."""
    view = item.model_dump(mode="json", exclude={"job", "dub_preview", "source", "moments", "passed_through", "metrics"})
    view["dub"] = without_secrets(item.dub)
    view["key"] = item.key
    view["moments"] = [{**moment.model_dump(), "reason": reason_words(moment.reason, language)} for moment in item.worst_first()]
    view["passed_through"] = [{**passage.model_dump(), "reason": reason_words(passage.reason, language)} for passage in item.passed_through]
    view["metrics"] = [
        {"name": name, **metric.model_dump(), "meaning": metric_meaning(name, language) or metric.meaning} for name, metric in sorted(item.metrics.items())
    ]
    view["approvable"] = item.gate.is_open and run.is_open
    view["settings"] = {name: value for name, value in item.settings.items() if value is not None}
    view["verdicts"] = [verdict.model_dump() for verdict in given]
    view["redo"] = [field.model_dump() for field in redo_form(item.settings, language)]
    return view
