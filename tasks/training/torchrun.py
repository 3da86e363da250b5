"""Whether torchrun started this process, and who of its workers speaks: known before there is a session, and without torch, whose import takes seconds."""

import os

TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def is_under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return all(name in os.environ for name in TORCHRUN_VARIABLES)


def prints_here() -> bool:
    """Whether this process tells people how it goes: of torchrun's workers only the one that leads does."""
    return not is_under_torchrun() or os.environ["RANK"] == "0"
