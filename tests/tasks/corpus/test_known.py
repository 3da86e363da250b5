"""The index of known sources: never needed, never wrong, few files."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import StoreError
from schemas.jobs import BatchPlan, PlannedSource
from schemas.reasons import Reason
from schemas.settings import FormatSettings
from tasks import places
from tasks.corpus import known as index
from tasks.corpus.known import DIGEST, Known, add_forgotten, drop_index, nothing_known, read_forgotten, read_known, source_digest
from tasks.corpus.plan import plan_batch
from tasks.corpus.store import CorpusStore
from tests.tasks.corpus.conftest import finish_batch


@pytest.fixture
def store(tmp_path: Path) -> CorpusStore:
    return CorpusStore.create_or_open(str(tmp_path / "store"), FormatSettings())


def source(number: int) -> PlannedSource:
    return PlannedSource(uri=f"/footage/{number}.mp4", size=number, version="1", speaker="anna")


def digests(*sources: PlannedSource) -> np.ndarray:
    return np.array([source_digest(one.uri, one.size, one.version) for one in sources], dtype=DIGEST)


def is_known(known: Known, *sources: PlannedSource) -> list[bool]:
    return (known.positions(digests(*sources)) >= 0).tolist()


def finish(store: CorpusStore, *plans: BatchPlan, reason: Reason | None = None) -> None:
    for plan in plans:
        finish_batch(store.uri, plan, *([(None, reason)] if reason else []))


def plans_of(*numbers: int) -> list[BatchPlan]:
    """A batch of one source for each number."""
    return [plan_batch([source(number)], FormatSettings()) for number in numbers]


def parts(store: CorpusStore) -> list[str]:
    folder = Path(store.uri) / "known"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def same(one: Known, other: Known) -> bool:
    """Whether two say the same of the same sources."""
    if one.digests.tolist() != other.digests.tolist():
        return False
    return all(one.last_attempt(position) == other.last_attempt(position) for position in range(len(one.digests)))


def test_size_and_version_tell_a_source() -> None:
    told = {source_digest("a", 1, "1"), source_digest("a", 2, "1"), source_digest("a", 1, "2"), source_digest("b", 1, "1"), source_digest("a", 11, "")}
    assert len(told) == 5
    assert all(len(digest) == 16 for digest in told)


def test_nothing_is_known_of_a_store_that_is_not_there() -> None:
    assert is_known(nothing_known(), source(1)) == [False]


def test_few_finished_batches_need_no_index_and_unfinished_ones_are_not_known(store: CorpusStore) -> None:
    finish(store, *plans_of(1, 2))
    (unfinished,) = plans_of(3)
    places.write_bytes(f"{store.uri}/plans/{unfinished.batch}.json", unfinished.model_dump_json().encode())
    assert is_known(read_known(store), source(1), source(2), source(3)) == [True, True, False]
    assert parts(store) == []


def test_many_batches_are_indexed_once_and_read_from_there(store: CorpusStore, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(store, *plans_of(*range(64)))
    first = read_known(store)
    (part,) = parts(store)
    written = (Path(store.uri) / "known" / part).stat().st_mtime_ns
    monkeypatch.setattr(index.places, "read_many", lambda locations: pytest.fail(f"{len(locations)} small files were read"))
    assert same(read_known(store), first)
    assert parts(store) == [part]
    assert (Path(store.uri) / "known" / part).stat().st_mtime_ns == written


def test_deleting_or_damaging_the_index_changes_nothing_that_is_known(store: CorpusStore) -> None:
    finish(store, *plans_of(*range(63)))
    finish(store, *plans_of(63, 64), reason=Reason.TIME_LIMIT)
    known = read_known(store)
    drop_index(store.uri)
    assert parts(store) == []
    assert same(read_known(store), known)
    (part,) = parts(store)
    (Path(store.uri) / "known" / part).write_bytes(b"damaged")
    assert same(read_known(store), known)
    (Path(store.uri) / "known" / part).unlink()
    (Path(store.uri) / "known").rmdir()
    drop_index(store.uri)


def test_a_batch_that_is_taken_away_is_not_known_any_more_even_by_an_index_that_is_left(store: CorpusStore) -> None:
    plans = plans_of(*range(64))
    finish(store, *plans)
    read_known(store)
    (Path(store.uri) / "clips" / f"{plans[7].batch}.parquet").unlink()
    assert is_known(read_known(store), source(7), source(8)) == [False, True]


def test_many_parts_become_one(store: CorpusStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "INDEX_FROM_BATCHES", 1)
    seen = []
    for number in range(index.MOST_PARTS + 1):
        finish(store, *plans_of(number))
        read_known(store)
        seen.append(len(parts(store)))
    assert seen == [*range(1, index.MOST_PARTS + 1), 1]
    assert all(is_known(read_known(store), *map(source, range(index.MOST_PARTS + 1))))


def test_two_planners_may_index_the_same_batches_and_one_may_merge_under_the_other(store: CorpusStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "INDEX_FROM_BATCHES", 1)
    finish(store, *plans_of(1, 2))
    read_known(store)
    listed = parts(store)
    finish(store, *plans_of(3))
    drop_index(store.uri)
    monkeypatch.setattr(index, "_part_names", lambda store_uri: listed)
    assert all(is_known(read_known(store), source(1), source(2), source(3))), "a part that was listed is gone when it is read"
    monkeypatch.undo()
    read_table = pq.read_table(Path(store.uri) / "known" / parts(store)[0])
    pq.write_table(read_table.slice(1), Path(store.uri) / "known" / "other.parquet")
    assert len(read_known(store).digests) == 3, "two parts with the same batches"
    merged = index._without_doubles(index.pa.concat_tables([read_table, read_table.slice(1)]))
    assert sorted(merged.to_pylist(), key=str) == sorted(read_table.to_pylist(), key=str)


def test_the_last_attempt_counts_and_of_two_beside_each_other_the_later_name(store: CorpusStore) -> None:
    first = plan_batch([source(1)], store.format)
    second = plan_batch([source(1)], store.format, attempt=1, retry_of=first.batch)
    twin = plan_batch([source(1), source(2)], store.format, attempt=1)
    finish(store, first, reason=Reason.TIME_LIMIT)
    known = read_known(store)
    assert known.last_attempt(0) == (first.batch, 0, True)
    finish(store, second, reason=Reason.NO_FACE)
    known = read_known(store)
    assert known.last_attempt(int(known.positions(digests(source(1)))[0])) == (second.batch, 1, False)
    finish(store, twin)
    known = read_known(store)
    assert known.last_attempt(int(known.positions(digests(source(1)))[0])).batch == max(second.batch, twin.batch)


def made_up(number: int) -> bytes:
    """A digest that ends, as some do, in zero bytes, and has some within."""
    return bytes([number % 256, 0, number // 256] + [0] * 13)


@given(st.lists(st.integers(0, 300), unique=True), st.lists(st.integers(0, 300), min_size=1))
def test_positions_are_where_the_digests_are(held: list[int], asked: list[int]) -> None:
    columns = [[made_up(number) for number in held], ["b"] * len(held), [0] * len(held), [False] * len(held)]
    rows = index.pa.table(columns, schema=index.INDEX)
    known = index._latest(rows)
    wanted = np.array([made_up(number) for number in asked], dtype=DIGEST)
    positions = known.positions(wanted)
    assert [position >= 0 for position in positions] == [number in held for number in asked]
    assert all(known.digests[position] == digest for position, digest in zip(positions, wanted, strict=True) if position >= 0)


def test_the_forgotten_list_grows_and_counts_as_known_for_good(store: CorpusStore) -> None:
    assert read_forgotten(store.uri) == (frozenset(), frozenset())
    (refused,) = plans_of(1)
    finish(store, refused, reason=Reason.TIME_LIMIT)
    first, second = digests(source(1), source(9)).tolist()
    add_forgotten(store.uri, [first], ["0123456789abcdef"])
    add_forgotten(store.uri, [second, first])
    add_forgotten(store.uri, contents=["f" * 16])
    assert read_forgotten(store.uri) == (frozenset({first, second}), frozenset({"0123456789abcdef", "f" * 16}))
    known = read_known(store)
    assert is_known(known, source(1), source(9), source(2)) == [True, True, False]
    assert not known.retryable.any(), "what is forgotten is not tried again either"


def test_a_forgotten_list_that_cannot_be_read_is_an_error_and_never_ignored(store: CorpusStore) -> None:
    (Path(store.uri) / "forgotten.parquet").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"forgotten\.parquet cannot be read\.$"):
        read_known(store)


@pytest.mark.parametrize(("folder", "suffix"), [("plans", "json"), ("rejects", "parquet")])
def test_a_batch_whose_files_cannot_be_read_is_one_sentence(store: CorpusStore, folder: str, suffix: str) -> None:
    (plan,) = plans_of(1)
    finish(store, plan)
    (Path(store.uri) / folder / f"{plan.batch}.{suffix}").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=rf"{plan.batch}.* cannot be read\.$"):
        read_known(store)
