"""Templates kept between dubs: the second dub of a video skips pass one. A folder or an s3:// prefix, <key>.npz and <key>.json for each.

<key>.npz: the arrays of a template, and what it was made for (NumPy's zip of plain arrays, no pickle, no full frames). <key>.json: when
it was used last, for lists and for what goes first. Both appear whole or not at all; of two that are written at once the later one stays,
and either will do. Whatever cannot be read is made again.
"""

import hashlib
import json
import logging
import time
import tokenize
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from schemas.errors import StoreError
from schemas.locations import without_secrets
from schemas.settings import CropSettings, DubSettings, TemplateSettings, names_a_picture
from tasks import places
from tasks.dubbing.frame_arrays import array_of, let_go
from tasks.dubbing.reference_choice import References
from tasks.dubbing.template import Template
from tasks.file_hash import file_hash

LOG = logging.getLogger(__name__)

FORMAT = 3
"""Grows when a template changes its meaning; part of every key, and told in every file."""
SHAPED_BY = ("fps", "face", "references", "landmark_references", "smoothing")
"""The settings of a dub that shape its template, besides the crop."""
KEY_PART = 16
"""Hex digits of each half of a key: 64 bits."""
PIECE_BYTES = 2**20
"""Bytes of an array read or written at a time."""
BYTES_A_GB = 10**9
SECONDS_A_DAY = 86400.0
BOUND_EVERY_S = SECONDS_A_DAY
"""How often a store is bounded that does not hold too much: each time costs a request for every template."""
BOUNDED = ".bounded"
"""Name of the file that says when that was."""
LEFTOVERS_STAY_S = SECONDS_A_DAY
"""How long half-written files of killed processes stay: nobody writes a template for a day."""
DAMAGE = (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, OSError, RuntimeError, SyntaxError, tokenize.TokenError)
"""What reading a damaged file raises: zip, json and NumPy's headers, which are written in Python, each have their own errors."""
PARTS: Mapping[str, str] = {f"references.{field.name}": field.name for field in fields(References)}
ARRAYS = tuple(field.name for field in fields(Template) if field.name != "references")
ABOUT = "about"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class KeptTemplate:
    """A template in a store. name: of its video, as it was given. frames: looked at.

    used_s: time of its last use (0: not known); goes_s: when it goes unless it is used. Both in seconds since 1970.
    """

    key: str
    name: str
    frames: int
    bytes: int
    used_s: float
    goes_s: float


def template_key(video_path: str | Path, settings: DubSettings, crop: CropSettings) -> str:
    """What names a template: hash of the video's content, dash, hash of all that shapes a template. FileNotFoundError without the video."""
    shaped: dict[str, Any] = {name: getattr(settings, name) for name in SHAPED_BY} | {"crop": crop.model_dump(mode="json"), "format": FORMAT}
    if names_a_picture(settings.face):
        with suppress(OSError, StoreError), places.local_copy(settings.face) as picture:  # one that cannot be read is told where it is looked at
            shaped["face"] = file_hash(picture)
    digest = hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()
    return f"{file_hash(Path(video_path))[:KEY_PART]}-{digest[:KEY_PART]}"


class TemplateStore:
    """A folder or prefix of templates, bounded in size and age, that any number of processes may use at once."""

    def __init__(self, location: str, settings: TemplateSettings | None = None) -> None:
        self.location = location
        self.settings = settings or TemplateSettings()

    def get(self, key: str, make: Callable[[], Template], frames: int | None = None, name: str = "") -> tuple[Template, bool]:
        """The template of a key and True when it was kept, else what `make` gives, which is kept from now on, and False.

        frames: how many the caller needs; one that was made for fewer of them, and did not reach its video's end, is made again, and
        so is one that was not used for too long. Of others what is too much goes with the next that is kept, what is too old within a day.
        name: of the video, for lists. Raises StoreError when the place cannot be reached or written to, and what `make` raises.
        """
        kept = self._read(key, frames) if self._kept(key, 0).goes_s >= time.time() else None
        if kept is not None:
            with suppress(StoreError):  # who may only read there uses it all the same
                self._note_use(key, name, kept.frames)
                self._bound_daily()
            return kept, True
        template = make()
        self._write(key, template, frames if frames is not None else template.frames, name)
        self._bound_after_writing()
        return template, False

    def list(self) -> tuple[KeptTemplate, ...]:
        """What is kept, the last used first."""
        kept = [self._kept(key, size) for key, size in self._sizes().items()]
        return tuple(sorted(kept, key=lambda one: (-one.used_s, one.key)))

    def going(self, kept: Iterable[KeptTemplate]) -> tuple[KeptTemplate, ...]:
        """Of a list, what must go: what is too old and, the longest unused first, what is too much."""
        room, now_s = self.settings.max_gb * BYTES_A_GB, time.time()
        gone = []
        for one in kept:
            room -= one.bytes
            if room < 0 or one.goes_s < now_s:
                gone.append(one)
        return tuple(gone)

    def drop(self, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """Removes templates by their keys, beginnings of keys or videos' names, or all of them (None); gives the keys of those removed."""
        chosen = None if names is None else tuple(filter(None, names))
        gone = [one.key for one in self.list() if chosen is None or any(one.key.startswith(name) or one.name == name for name in chosen)]
        for key in gone:
            self._remove(key)
        return tuple(gone)

    def _place(self, key: str, suffix: str) -> str:
        return places.join(self.location, key + suffix)

    def _files(self) -> Iterator[places.PlacedFile]:
        for file in places.list_objects(self.location):
            if not places.name_of(file.path).startswith("."):
                yield file

    def _sizes(self) -> dict[str, int]:
        """Bytes of each template by its key; a request or two, whatever their number."""
        return {Path(file.path).stem: file.size for file in self._files() if file.path.endswith(".npz")}

    def _read(self, key: str, frames: int | None) -> Template | None:
        """The kept template if there is one that can be read and that serves."""
        try:
            with places.local_copy(self._place(key, ".npz")) as path:
                return _read_file(path, frames)
        except FileNotFoundError:
            return None
        except DAMAGE as error:
            LOG.warning("The template %s in %s cannot be read (%s) and is made again.", key, without_secrets(self.location), error)
            return None

    def _write(self, key: str, template: Template, made_for: int, name: str) -> None:
        about = {"format": FORMAT, "frames": template.frames, "made_for": made_for}
        arrays: dict[str, Array] = {ABOUT: np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}
        arrays |= {name: getattr(template, name) for name in ARRAYS}
        arrays |= {part: getattr(template.references, name) for part, name in PARTS.items()}
        self._note_use(key, name, template.frames)  # first: what has no last use is the first to go
        with places.writing(self._place(key, ".npz")) as path, zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                _put(archive, name, array)

    def _note_use(self, key: str, name: str, frames: int) -> None:
        note = {"name": name, "frames": frames, "used_s": time.time()}
        places.write_bytes(self._place(key, ".json"), json.dumps(note).encode())

    def _kept(self, key: str, size: int) -> KeptTemplate:
        stays_s = self.settings.max_age_days * SECONDS_A_DAY
        try:
            note = json.loads(places.read_bytes(self._place(key, ".json")))
            used_s = float(note["used_s"])
            return KeptTemplate(key, str(note["name"]), int(note["frames"]), size, used_s, used_s + stays_s)
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # another process drops it just now, or its writer was killed
            return KeptTemplate(key, "", 0, size, 0.0, stays_s)

    def _bound_after_writing(self) -> None:
        """Looks through the notes of all when there is too much, and else no more often than where templates are only read."""
        if sum(self._sizes().values()) > self.settings.max_gb * BYTES_A_GB:
            self._bound()
        else:
            self._bound_daily()

    def _bound_daily(self) -> None:
        """Looks once a day for what is too old, and for leftovers."""
        try:
            bounded_s = float(places.read_bytes(self._place(BOUNDED, "")))
        except (FileNotFoundError, ValueError):
            bounded_s = 0.0
        if time.time() - bounded_s > BOUND_EVERY_S:
            places.write_bytes(self._place(BOUNDED, ""), str(time.time()).encode())  # first: of jobs that begin together one does it
            self._bound()

    def _bound(self) -> None:
        """Drops what must go, and leftovers of killed writers."""
        for one in self.going(self.list()):
            if self._kept(one.key, 0).used_s <= one.used_s:  # else another job has used it since
                self._remove(one.key)
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Files that killed writers left half written, and notes of templates that were dropped while somebody used them."""
        oldest_s = time.time() - LEFTOVERS_STAY_S
        names = {places.name_of(file.path) for file in self._files()}
        for note in (name for name in names if name.endswith(".json") and name.removesuffix(".json") + ".npz" not in names):
            if self._kept(note.removesuffix(".json"), 0).used_s < oldest_s:
                places.remove(self._place(note, ""))
        if not places.is_remote(self.location):
            for path in places.local_path(self.location).glob(".*.partial*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < oldest_s:
                        places.remove(str(path))

    def _remove(self, key: str) -> None:
        for suffix in (".npz", ".json"):
            places.remove(self._place(key, suffix))


def _read_file(path: Path, frames: int | None) -> Template | None:
    """The template in a file, if it is of this format and serves so many frames."""
    with zipfile.ZipFile(path) as archive:
        about = json.loads(bytes(_array(archive, ABOUT)))
        serves = frames is None or about["made_for"] >= frames or about["frames"] < about["made_for"]
        return _template(archive, about["frames"]) if about["format"] == FORMAT and serves else None


def _template(archive: zipfile.ZipFile, frames: int) -> Template:
    """ValueError when the arrays are not those of so many frames."""
    arrays = {name: _array(archive, name) for name in ARRAYS}
    if {len(array) for array in arrays.values()} != {frames}:
        raise ValueError("its arrays are not of one length")
    references = References(**{field: _array(archive, part) for part, field in PARTS.items()})
    return Template(references=references, **arrays)


def _put(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    """An array into the archive as `numpy.savez` has it, a piece at a time, so that of one that is mapped little is in memory at once."""
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}  # type: ignore[no-untyped-call]
    rows_at_once = _rows_at_once(array.shape, array.dtype)
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
        for first in range(0, len(array), rows_at_once):
            member.write(array[first : first + rows_at_once].tobytes())
            let_go(array)


def _array(archive: zipfile.ZipFile, name: str) -> Array:
    """An array of the archive, held or mapped from a temporary file as its size asks; its checksum is that of the archive."""
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _header(member)
        piece_bytes = _rows_at_once(shape, dtype) * _row_bytes(shape, dtype)
        pieces = iter(lambda: member.read(piece_bytes), b"")
        whole = array_of((np.frombuffer(piece, dtype=dtype).reshape(-1, *shape[1:]) for piece in pieces), shape[1:], dtype)
    if whole.shape != shape:
        raise ValueError(f"{name} is cut short")
    return whole


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize


def _rows_at_once(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return max(1, PIECE_BYTES // max(1, _row_bytes(shape, dtype)))


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array file, read up to where its rows begin. ValueError for anything but rows of plain numbers."""
    version = np.lib.format.read_magic(member)  # type: ignore[no-untyped-call]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(member)  # type: ignore[no-untyped-call]
    if by_columns or dtype.hasobject or not shape:
        raise ValueError("it holds something else than rows of numbers")
    return shape, dtype


def templates_of(settings: DubSettings) -> TemplateStore | None:
    """The templates that a dub's settings keep; None where they keep none."""
    if settings.templates is None:
        return None
    return TemplateStore(settings.templates, settings.template_settings)


def list_lines(store: TemplateStore, kept: Sequence[KeptTemplate]) -> list[str]:
    """What a store keeps, as a person reads it: a line a template and one for all."""
    if not kept:
        return [f"No template is kept in {without_secrets(store.location)}."]
    going = {one.key for one in store.going(kept)}
    lines = [f"{one.key}  {_size(one.bytes):>9}  {_frames(one.frames)}  {_when(one, one.key in going)}  {one.name}" for one in kept]
    return [*lines, f"{len(kept)} kept: {_size(sum(one.bytes for one in kept))} of {store.settings.max_gb:g} GB"]


def _frames(frames: int) -> str:
    return f"{frames:>6} {'frame ' if frames == 1 else 'frames'}"


def _when(one: KeptTemplate, is_going: bool) -> str:
    used = f"used {_utc(one.used_s, '%Y-%m-%d %H:%M')} UTC" if one.used_s else "last use not known"
    return f"{used}, {'due to go' if is_going else _utc(one.goes_s, 'goes %Y-%m-%d')}"


def _utc(time_s: float, form: str) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime(form)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= BYTES_A_GB else f"{size / 1e6:.1f} MB"
