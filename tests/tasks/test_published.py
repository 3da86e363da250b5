"""Which version is in use: whoever publishes replaces what they have looked at, and nothing else."""

from pathlib import Path

from tasks.published import Current, current_location, read_current, replace_current
from tests.s3_server import s3_bucket


def version(name: str) -> Current:
    return Current(version=name, weights=f"{name}/renderer.safetensors")


def replaces_only_what_was_seen(models: str) -> None:
    location = current_location(models, "renderer")
    assert replace_current(location, None, version("a"))
    assert not replace_current(location, None, version("b")), "somebody else was the first"
    assert read_current(location) == version("a")
    assert replace_current(location, version("a"), version("b"))
    assert not replace_current(location, version("a"), version("c"))
    assert read_current(location) == version("b")


def test_a_version_replaces_only_the_one_that_was_looked_at(tmp_path: Path) -> None:
    replaces_only_what_was_seen(str(tmp_path))


def test_it_does_so_on_s3() -> None:
    with s3_bucket("pointers") as bucket:
        replaces_only_what_was_seen(f"{bucket}/models")
