"""Bulk dubbing from bucket to bucket, on an S3 protocol server on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import StoreError
from schemas.settings import BulkDubSettings, DubSettings
from tasks import places
from tasks.dubbing.bulk import bulk_dub_here
from tasks.dubbing.dub import dub_video
from tasks.dubbing.generate import Networks
from tasks.dubbing.results import read_results
from tasks.dubbing.stamp import read_dub_stamp
from tests.s3_server import s3_bucket


@pytest.fixture
def bucket() -> Iterator[str]:
    with s3_bucket("dubbing") as prefix:
        yield prefix


def test_bucket_to_bucket(bucket: str, settings: DubSettings, networks: Networks, clip: Path, speech: Path) -> None:
    places.write_bytes(f"{bucket}/in/clip.mp4", clip.read_bytes())
    places.write_bytes(f"{bucket}/in/speech.wav", speech.read_bytes())
    places.write_bytes(f"{bucket}/in/text.mp4", b"no video")
    rows = ["job_id,video,speech,out", "good,clip.mp4,speech.wav,good.mp4", "text,text.mp4,speech.wav,text.mp4", "none,none.mp4,speech.wav,none.mp4"]
    places.write_bytes(f"{bucket}/in/jobs.csv", "\n".join(rows).encode())
    bulk = BulkDubSettings(**settings.model_dump(), jobs=f"{bucket}/in/jobs.csv", out=f"{bucket}/out")
    summary = bulk_dub_here(bulk)
    assert (summary.done, summary.failed) == (1, {"missing": 1, "not-media": 1})
    assert read_dub_stamp(f"{bucket}/out/good.mp4")["synthetic"] is True
    assert places.list_names(f"{bucket}/out") == ["good.mp4"]
    assert f"{bucket}/in/text.mp4" in str(read_results(bulk.out)["text"]["detail"])
    again = bulk_dub_here(bulk)
    assert (again.already_done, again.done) == (1, 0)
    assert [name[:11] for name in places.list_names(f"{bucket}/out/results")] == ["part-00000-"]

    with pytest.raises(StoreError):
        dub_video(str(clip), str(speech), "s3://no-such-bucket/dub.mp4", settings, networks=networks)
