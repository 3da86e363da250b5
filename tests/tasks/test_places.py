from pathlib import Path

import pytest

from tasks import places


@pytest.mark.parametrize("name", ["plain", "take [1]", "a*b", "a?b"])
def test_many_files_are_read_in_order_whatever_their_folder_is_called(tmp_path: Path, name: str) -> None:
    locations = [f"{tmp_path}/{name}/{number}.json" for number in (2, 0, 1)]
    for number, location in enumerate(locations):
        places.write_bytes(location, b"%d" % number)
    places.write_bytes(f"{tmp_path}/axb/0.json", b"what a pattern would find")
    assert places.read_many(locations) == [b"0", b"1", b"2"]
    assert places.read_many(locations[:1]) == [b"0"]
    assert places.read_many([]) == []


def test_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    places.write_bytes(f"{tmp_path}/there", b"")
    with pytest.raises(FileNotFoundError):
        places.read_many([f"{tmp_path}/there", f"{tmp_path}/gone"])
