"""Batches made ahead: while one is learnt from, the next ones are made on threads of their own."""

import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Batch = TypeVar("Batch")


class BatchesAhead(Iterator[Batch], Generic[Batch]):
    """Batches of steps in order. Leave it early with `close` or as a context: batches that were not begun are not made then.

    waited_s: seconds for which `next` had to wait in all, since the batch that was asked for was not made yet.
    """

    def __init__(self, make: Callable[[int], Batch], steps: range, ahead: int) -> None:
        self.waited_s = 0.0
        self._make = make
        self._steps = iter(steps)
        self._makers = ThreadPoolExecutor(ahead, thread_name_prefix="batches")
        self._coming: deque[Future[Batch]] = deque()
        self._ended = weakref.finalize(self, self._makers.shutdown, wait=False, cancel_futures=True)  # also when it is just dropped
        for _ in range(ahead):
            self._begin_next()

    def _begin_next(self) -> None:
        step = next(self._steps, None)
        if step is not None:
            self._coming.append(self._makers.submit(self._make, step))

    def __next__(self) -> Batch:
        """The next batch; raises what making it raised."""
        if not self._coming:
            self.close()
            raise StopIteration
        began = time.perf_counter()
        batch = self._coming.popleft().result()
        self.waited_s += time.perf_counter() - began
        self._begin_next()
        return batch

    def close(self) -> None:
        """Ends the threads once they have made the batches that they are at; those are forgotten."""
        self._ended.detach()
        self._coming.clear()
        self._makers.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def batches_ahead(make: Callable[[int], Batch], steps: range, ahead: int) -> BatchesAhead[Batch]:
    """The batches that `make` gives for steps, in order, `ahead` of them made at once, each on a thread of its own."""
    return BatchesAhead(make, steps, ahead)
