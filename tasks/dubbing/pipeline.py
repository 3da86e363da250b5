"""Decoding ahead, pasting and encoding behind: while one frame is rendered, the next are read and the last are finished and written, on threads of
the same process.

ffmpeg, OpenCV and torch let go of Python's lock while they work, so threads are enough and no picture is copied between processes.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """The items in order, at most `depth` of them made ahead, one after the other on one thread that begins with the first `next`.

    An error of the items comes out where the item would have come, as it is. Whoever leaves early closes the generator (or drops it):
    the item at work is waited for, no further one is made, the items' own generator is closed and the thread has ended.
    """
    if depth < 1:
        raise ValueError(f"depth {depth} must be at least 1")
    return _ahead(items, depth)


def _ahead(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    iterator = iter(items)
    end = object()
    coming: deque[Future[Item | object]] = deque()
    with _Worker("ahead") as worker:
        try:
            for _ in range(depth):
                coming.append(worker.submit(next, iterator, end))
            while (item := coming.popleft().result()) is not end:
                coming.append(worker.submit(next, iterator, end))
                yield item  # type: ignore[misc]
        finally:
            worker.shutdown(wait=True, cancel_futures=True)
            if isinstance(iterator, Generator):
                iterator.close()


class Behind(Generic[Item]):
    """Hands items to a function in order on a thread of its own, at most `depth` of them waiting; a context manager.

    The function's first error is raised, as it is, by a later `put` or at the end of the context; it gets nothing after that.
    A clean end waits until everything was consumed; after an error only for the item at work. The function may `put` into another one, whose
    context is the outer: the errors of both come out here.
    """

    def __init__(self, consume: Callable[[Item], None], depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth {depth} must be at least 1")
        self._consume = consume
        self._depth = depth
        self._failed = False
        self._waiting: deque[Future[None]] = deque()
        self._worker = _Worker("behind")

    def put(self, item: Item) -> None:
        """Leaves an item to the thread; waits while `depth` of them are there."""
        while len(self._waiting) >= self._depth or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._worker.submit(self._consume_next, item))

    def _consume_next(self, item: Item) -> None:
        if self._failed:  # its error has not been asked for yet
            return
        try:
            self._consume(item)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            while error is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._worker.shutdown(wait=True, cancel_futures=True)


class _Worker(ThreadPoolExecutor):
    """One thread that does what it is given, in order."""

    def __init__(self, name: str) -> None:
        super().__init__(1, thread_name_prefix=name)
