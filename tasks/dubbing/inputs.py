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


class FetchedAhead:
    """One input that is fetched before the dub which reads it, so that what is asked of it first does not fetch it a second time."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._held: tuple[str, Path] | None = None

    def fetch(self, location: str) -> Path:
        """A path or URI as a local file, until it is taken or another one is fetched. MediaError as `fetched`."""
        if self._held is None or self._held[0] != location:
            self._let_go()
            self._held = location, fetched(self._stack, location)
        return self._held[1]

    @contextmanager
    def taken(self, location: str) -> Iterator[Path]:
        """A local file for this block, fetched unless it was; errors about it within name what the user gave. MediaError as `fetched`."""
        path = self.fetch(location)
        self._held = None
        with self._stack:
            yield path

    def _let_go(self) -> None:
        self._held = None
        self._stack.close()


@contextmanager
def named_as_given(local: str, given: str) -> Iterator[None]:
    """Errors about a local copy name what the user gave: a temporary file's name would tell nobody anything."""
    try:
        yield
    except MediaError as error:
        raise MediaError(error.reason, str(error).replace(local, given)) from error
