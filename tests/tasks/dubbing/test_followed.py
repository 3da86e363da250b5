import numpy as np
import pytest

from schemas.settings import CropSettings
from tasks.dubbing import followed
from tasks.dubbing.covered import PATCHES, usual_look, visibility
from tasks.dubbing.followed import FollowedFaces
from tasks.dubbing.frame_arrays import GrowingArray


def test_of_a_person_who_comes_back_only_their_own_mouths_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other person's thousand frames between are not."""
    monkeypatch.setattr(followed, "ROWS_AT_ONCE", 50)
    looks = (6 * np.random.default_rng(0).standard_normal((1200, PATCHES, 3))).astype(np.float32)
    faces = FollowedFaces(CropSettings(), 25.0)
    faces._mouths.append(looks)
    read: list[int] = []
    honest = GrowingArray.read
    monkeypatch.setattr(GrowingArray, "read", lambda self, first, last: (read.append(last - first), honest(self, first, last))[1])
    rows = np.r_[0:120, 1130:1200]
    visible = faces.visibility(rows)
    np.testing.assert_array_equal(visible, visibility(looks[rows], usual_look(looks[rows])))
    assert 0 < visible.mean() < 1
    assert max(read) <= 50
    assert sum(read) <= 2 * len(rows)
