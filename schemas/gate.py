"""Whether something passed the thresholds that settings set: a model on its way into use, a dub, a batch of dubs."""

from typing import Literal

from pydantic import Field

from schemas.settings import Settings

NO_THRESHOLDS = "No thresholds are set."


class Gate(Settings):
    """What a gate says. The sentence is shown as it is."""

    status: Literal["passed", "held"] = "passed"
    sentence: str = Field(default=NO_THRESHOLDS, description="what was compared with what")

    @property
    def is_open(self) -> bool:
        """Whether what it stands before may go on."""
        return self.status == "passed"
