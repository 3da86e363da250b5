"""A dub's inputs as local files, and errors that name them as the user did."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from schemas.errors import MediaError, StoreError
from schemas.locations import without_secrets
from schemas.reasons import Reason
from tasks.places import local_copy


def fetched(stack: ExitStack, location: str) -> Path:
    """A path or URI as a local file until the stack closes. MediaError: MISSING, UNREADABLE."""
    try:
        path = stack.enter_context(local_copy(location))
    except FileNotFoundError as error:
        raise MediaError(Reason.MISSING, f"{without_secrets(location)} is not there.") from error
    except (OSError, StoreError) as error:
        raise MediaError(Reason.UNREADABLE, without_secrets(f"{location} could not be read: {str(error).rstrip('.')}.")) from error
    stack.enter_context(named_as_given(str(path), location))
    return path


@contextmanager
def named_as_given(local: str, given: str) -> Iterator[None]:
    """Errors about a local copy name what the user gave: a temporary file's name would tell nobody anything."""
    try:
        yield
    except MediaError as error:
        raise MediaError(error.reason, str(error).replace(local, given)) from error
