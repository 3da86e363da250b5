"""An S3 protocol server on loopback, for tests of what reads and writes s3:// places."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest


@contextmanager
def s3_bucket(name: str) -> Iterator[str]:
    """The s3:// prefix of an empty bucket; s3fs finds the server by the environment."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        fsspec.filesystem("s3").clear_instance_cache()
        fsspec.filesystem("s3", client_kwargs={"region_name": "eu-central-1"}).mkdir(name)
        yield f"s3://{name}"
        fsspec.filesystem("s3").clear_instance_cache()
    running.stop()
