"""What the tests of review material share: one bulk run."""

import pytest

from schemas.settings import ReviewSettings
from tests.reviewed_run import make_reviewed_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> ReviewSettings:
    """The settings of its review; tests that must not meddle with others give another `review`."""
    return make_reviewed_run(tmp_path_factory.mktemp("run"))
