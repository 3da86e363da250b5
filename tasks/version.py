"""Which version of dubmill made something."""

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "dubmill"


def code_version() -> str:
    """The installed version; empty where the code is only on the path, as on a worker with PYTHONPATH alone."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""
