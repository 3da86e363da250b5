"""Components that end by themselves are started again: at once the first time, later and later when they do not stay."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from services import RAY, Service, ServiceError, Services

STEADY_S = 60.0
"""A component that ran for so long had come up; one that ended before ended at once."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pause before a component is started again, doubling with each time that it ends at once."""
MOST_ENDS = 5
"""So many times in a row a component may end at once: what is wrong with it then stays wrong."""
PORT_LIMIT_S = 60.0
"""Longest wait for the ports of a component that has ended; the kernel gives them free within seconds."""
LOST_WITH_RAY = " Its list of jobs and what they were doing are lost with it; Airflow's tasks submit them again."


@dataclass(frozen=True)
class _Ended:
    """A component that is to be started again. ends: how often in a row it has ended at once."""

    service: Service
    ends: int
    due_s: float


class Supervisor:
    """Watches the components of a folder. tell: shows one line to the user."""

    def __init__(self, services: Services, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._tell = tell
        self._clock = clock
        self._ends: dict[str, int] = {}
        self._ended: dict[str, _Ended] = {}

    def look(self) -> None:
        """Notes what has ended, and starts again what is due. Never waits for a pause.

        Raises ServiceError for a component that ends at once again and again, or whose port something else has taken.
        """
        now_s = self._clock()
        for service in self._services.started:
            if service.name not in self._ended and (code := service.process.poll()) is not None:
                self._ended[service.name] = self._note(service, code, now_s)
        for ended in [ended for ended in self._ended.values() if ended.due_s <= now_s]:
            self._start_again(ended, now_s)

    def _note(self, service: Service, code: int, now_s: float) -> _Ended:
        ended_at_once = now_s - service.began_s < STEADY_S
        ends = self._ends[service.name] = self._ends.get(service.name, 0) + 1 if ended_at_once else 1
        if ends >= MOST_ENDS:
            raise ServiceError(f"{service.name} ended {ends} times in a row soon after it was started, at last {_how(code)}; see {service.log}.")
        pause_s = min(FIRST_PAUSE_S * 2 ** (ends - 1), LONGEST_PAUSE_S)
        lost = LOST_WITH_RAY if service.name == RAY else ""
        self._tell(f"{service.name} ended {_how(code)} and is started again in {pause_s:.0f} s; its log is {service.log}.{lost}")
        return _Ended(service, ends, now_s + pause_s)

    def _start_again(self, ended: _Ended, now_s: float) -> None:
        service = ended.service
        if self._services.start_again(service) is not None:
            del self._ended[service.name]
        elif now_s - ended.due_s > PORT_LIMIT_S:
            ports = ", ".join(map(str, service.taken_ports))
            raise ServiceError(f"{service.name} cannot be started again: something else listens on its port {ports}.")


def _how(code: int) -> str:
    """How a process ended, by its exit code as Python has it."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
