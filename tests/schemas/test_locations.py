"""What is said when a place cannot be reached."""

from collections.abc import Iterator

import fsspec
import pytest

from schemas.errors import CheckpointError, SettingsError, StoreError
from schemas.locations import absolute_location, is_remote, local_path, reachable, without_secrets
from schemas.settings import read_settings


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 client that finds no keys, and asks no machine of the network for some."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    yield
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.mark.usefixtures("no_credentials")
def test_no_credentials_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"^s3://bucket/settings\.yaml cannot be reached: Unable to locate credentials\.$"):
        read_settings("s3://bucket/settings.yaml")


def test_the_error_is_of_the_kind_that_is_asked_for() -> None:
    with pytest.raises(StoreError, match=r"^foo://a cannot be reached: Protocol not known: foo\.$"), reachable("foo://a"):
        fsspec.core.url_to_fs("foo://a")
    with pytest.raises(CheckpointError, match="foo://a"), reachable("foo://a", CheckpointError):
        fsspec.core.url_to_fs("foo://a")


@pytest.mark.parametrize("error", [FileNotFoundError("a"), PermissionError("b"), KeyError("c"), StoreError("d")])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, reachable("a"):
        raise error
    assert caught.value is error


def test_secrets_in_uris_are_not_shown() -> None:
    said = "https://anna:pass@host/a/b.yaml?X-Amz-Signature=1f cannot be reached: 403, url='http://h/x?sig=2' for mail@host, why?"
    assert without_secrets(said) == "https://host/a/b.yaml cannot be reached: 403, url='http://h/x' for mail@host, why?"
    assert without_secrets("s3://bucket/folder name/@home/a.yaml is not there.") == "s3://bucket/folder name/@home/a.yaml is not there."


def test_the_home_of_nobody_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="no such user"):
        local_path("~nobody-of-that-name/x.mp4")


def test_locations_of_this_machine() -> None:
    assert [is_remote(place) for place in ("a", "/a", "file:///a", "s3://a/b", "memory://a")] == [False, False, False, True, True]
    assert str(local_path("file:///a b/c")) == "/a b/c"
    assert [absolute_location(place) for place in ("/a", "file:///a", "s3://a/b")] == ["/a", "/a", "s3://a/b"]
