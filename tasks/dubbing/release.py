"""Approved dubs go out: each is copied to the release prefix, and recorded there once it is whole.

<release>/<batch>/<name>                        the dub
<release>/<batch>/<name>.released.json          who approved it, and what it is a copy of (schemas.review.ReleaseRecord); written after it

The originals stay: the room still plays them, and a bulk run that finds its output gone would make it anew.
"""

import logging

from pydantic import ValidationError

from schemas.errors import StoreError
from schemas.jobs import ReleaseSummary
from schemas.locations import without_secrets
from schemas.review import BATCH_FILE, ITEMS_FOLDER, ApprovedDub, ReleaseOutcome, ReleaseRecord, ReviewBatch, ReviewItem, item_key
from schemas.settings import ReleaseSettings
from tasks import places
from tasks.progress import Progress

log = logging.getLogger(__name__)

RECORD_SUFFIX = ".released.json"
OUTCOME_SUFFIX = ".outcome.json"


class OutdatedError(StoreError):
    """The dub was made anew since it was approved."""


def release_dubs(settings: ReleaseSettings, progress: Progress) -> ReleaseSummary:
    """Releases the dubs of a list that are not released yet. One that is not there any more is named in the outcome and holds up no other.

    Raises StoreError when the list cannot be read or the outcome not be written.
    """
    approved = read_approved(settings.approved)
    released, outdated, already, missing = [], [], 0, {}
    for done, dub in enumerate(approved, start=1):
        try:
            already += not _release(settings.release, dub)
            released.append((dub.batch, dub.number))
        except (OSError, StoreError) as error:
            outdated += [(dub.batch, dub.number)] if isinstance(error, OutdatedError) else []
            missing[f"{dub.batch}: {dub.job_id}"] = without_secrets(str(error) or type(error).__name__)
            log.warning("%s of %s is not released: %s", dub.job_id, dub.batch, error)
        progress(done, len(approved), dub.job_id)
    outcome = f"{settings.approved}{OUTCOME_SUFFIX}"
    told = ReleaseOutcome(released=tuple(released), outdated=tuple(outdated), missing=missing)
    places.write_bytes(outcome, told.model_dump_json().encode())
    return ReleaseSummary(release=settings.release, released=len(released) - already, already_released=already, missing=len(missing), outcome=outcome)


def read_approved(location: str) -> list[ApprovedDub]:
    """The lines of a list of approved dubs."""
    try:
        return [ApprovedDub.model_validate_json(line) for line in places.read_bytes(location).splitlines() if line.strip()]
    except (OSError, ValidationError) as error:
        raise StoreError(f"The list of approved dubs {without_secrets(location)} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from error


def _release(release: str, dub: ApprovedDub) -> bool:
    """Copies a dub and records it; False: that was done before."""
    target = places.join(release, dub.batch, dub.name)
    if _is_released(target, dub):
        return False
    _require_unchanged(dub)
    _require_open_gates(dub)
    with places.local_copy(dub.dub) as path:
        size = path.stat().st_size
        places.put(path, target)
    _require_unchanged(dub)  # else the record is not written, and what was copied does not count
    record = ReleaseRecord(**dub.model_dump(), released=target, size=size)
    places.write_bytes(f"{target}{RECORD_SUFFIX}", record.model_dump_json(indent=2).encode())
    return True


def _require_unchanged(dub: ApprovedDub) -> None:
    """OutdatedError for a file that is not the one that was looked at: nobody has approved it."""
    if places.version(dub.dub) != dub.version:
        raise OutdatedError(f"{without_secrets(dub.dub)} was changed since it was approved; it must be looked at again.")


def _require_open_gates(dub: ApprovedDub) -> None:
    """StoreError where a gate holds the dub or its run by now. Material that is gone holds nothing: the dub was approved while it was there."""
    for kind, name in ((ReviewItem, f"{ITEMS_FOLDER}/{item_key(dub.job_id)}.json"), (ReviewBatch, BATCH_FILE)):
        location = places.join(dub.folder, name)
        if not (dub.folder and places.exists(location)):
            continue
        try:
            gate = kind.model_validate_json(places.read_bytes(location)).gate
        except ValidationError as error:
            raise StoreError(f"{without_secrets(location)} is damaged, so it is not known what the gate says.") from error
        if not gate.is_open:
            raise StoreError(f"The gate holds it: {gate.sentence}")


def _is_released(target: str, dub: ApprovedDub) -> bool:
    """Whether this very dub lies there, whole: the record is written last, and names the dub it is of."""
    try:
        record = ReleaseRecord.model_validate_json(places.read_bytes(f"{target}{RECORD_SUFFIX}"))
    except (FileNotFoundError, ValidationError):
        return False
    return (record.fingerprint, record.dub, record.version) == (dub.fingerprint, dub.dub, dub.version) and places.exists(target)
