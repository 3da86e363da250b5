"""Speech by espeak-ng, whose library and voices lie inside the wheel `espeakng-loader`, with the phonemes it speaks."""

import ctypes
import threading
from _ctypes import dlclose  # ctypes has no public way to unload a library
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from schemas.errors import SettingsError
from tasks import places

SPOKEN_LANGUAGES = {"en": "en-us", "cmn": "cmn"}
"""Languages that there are sample sentences in, and espeak-ng's names of them."""

# From espeak-ng's speak_lib.h.
AUDIO_TO_CALLBACK = 2
WITH_PHONEME_EVENTS = 1
DO_NOT_EXIT = 0x8000
CHARACTERS_UTF8 = 1
PARAMETER_RATE = 1
PARAMETER_PITCH = 3
EVENT_LIST_ENDS = 0
EVENT_PHONEME = 7

_library_lock = threading.Lock()
"""espeak-ng keeps its state in globals: one sentence at a time."""


@dataclass(frozen=True)
class Voice:
    """How somebody speaks: an espeak-ng voice variant, a pitch (0..100) and words a minute."""

    variant: str = "m3"
    pitch: int = 50
    words_per_minute: int = 155


@dataclass(frozen=True)
class Phoneme:
    """A phoneme in espeak-ng's letters, without stress marks, and when it begins."""

    start_s: float
    name: str


@dataclass(frozen=True)
class Speech:
    """A spoken text: samples (n,) float32 in -1..1, their rate in Hz, and its phonemes in order of time."""

    samples: npt.NDArray[np.float32]
    sample_rate: int
    phonemes: tuple[Phoneme, ...]

    @property
    def duration_s(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.sample_rate


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Recorder:
    """Collects what espeak-ng's callback gives: pieces of sound and phonemes."""

    def __init__(self) -> None:
        self.pieces: list[npt.NDArray[np.int16]] = []
        self.phonemes: list[Phoneme] = []
        self.callback = _SynthCallback(self._receive)

    def _receive(self, sound: Any, samples: int, events: Any) -> int:
        if sound and samples > 0:
            self.pieces.append(np.ctypeslib.as_array(sound, (samples,)).copy())
        position = 0
        while events[position].type != EVENT_LIST_ENDS:
            event = events[position]
            if event.type == EVENT_PHONEME:
                name = event.id.string.decode("ascii", "replace").strip("',%=|;")
                self.phonemes.append(Phoneme(event.audio_position / 1000, name))
            position += 1
        return 0  # go on


@contextmanager
def _fresh_library() -> Iterator[tuple[Any, int]]:
    """espeak-ng as it is before its first word, and the rate of its sound in Hz.

    What it said before stays in its globals and changes what it says next, so that each text gets the library loaded anew
    (some 5 ms) and the C library's random numbers from their start.
    """
    import espeakng_loader  # only who makes sample speech needs the voices

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        ctypes.CDLL(None).srand(1)
        library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
        library.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        ]
        sample_rate = library.espeak_Initialize(AUDIO_TO_CALLBACK, 0, espeakng_loader.get_data_path().encode(), WITH_PHONEME_EVENTS | DO_NOT_EXIT)
        if sample_rate <= 0:
            raise SettingsError("espeak-ng could not start with the voices of the package espeakng-loader; install that package again.")
        yield library, int(sample_rate)
        library.espeak_Terminate()
    finally:
        dlclose(library._handle)


def speak(text: str, language: str, voice: Voice) -> Speech:
    """The text spoken in a language ("en", "cmn", or any that espeak-ng knows by that name).

    The same arguments give the same samples, except with variants whose definition has `breath` (f2, f3, f5).
    Raises SettingsError when there is no such language or voice.
    """
    recorder = _Recorder()
    with _library_lock, _fresh_library() as (library, sample_rate):
        library.espeak_SetSynthCallback(recorder.callback)
        _choose_voice(library, language, voice)
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, CHARACTERS_UTF8, None, None)
        library.espeak_Synchronize()
    if not recorder.pieces:
        raise SettingsError(f"espeak-ng speaks nothing for the text {text!r}.")
    samples = np.concatenate(recorder.pieces).astype(np.float32) / 32768
    return Speech(samples, sample_rate, tuple(recorder.phonemes))


def _choose_voice(library: Any, language: str, voice: Voice) -> None:
    import espeakng_loader

    name = f"{SPOKEN_LANGUAGES.get(language, language)}+{voice.variant}"
    is_variant = (Path(espeakng_loader.get_data_path()) / "voices" / "!v" / voice.variant).is_file()  # espeak-ng passes over unknown ones
    if not is_variant or library.espeak_SetVoiceByName(name.encode()) != 0:
        raise SettingsError(f"espeak-ng has no voice {name}.")
    library.espeak_SetParameter(PARAMETER_PITCH, voice.pitch, 0)
    library.espeak_SetParameter(PARAMETER_RATE, voice.words_per_minute, 0)


def join_speech(pieces: list[Speech], pause_s: float, duration_s: float) -> Speech:
    """Pieces one after the other with pauses before and between them, cut or filled with silence to `duration_s`."""
    rate = pieces[0].sample_rate
    samples = np.zeros(round(duration_s * rate), np.float32)
    phonemes: list[Phoneme] = []
    position = round(pause_s * rate)
    for piece in pieces:
        kept = piece.samples[: max(0, len(samples) - position)]
        samples[position : position + len(kept)] = kept
        phonemes += [Phoneme(position / rate + phoneme.start_s, phoneme.name) for phoneme in piece.phonemes]
        position += len(piece.samples) + round(pause_s * rate)
    fade = min(len(samples), round(0.04 * rate))  # a cut in the middle of a vowel would click
    samples[len(samples) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return Speech(samples, rate, tuple(phoneme for phoneme in phonemes if phoneme.start_s < duration_s))


def make_sample_speech(path: Path, text: str, language: str = "en", voice: Voice | None = None) -> Path:
    """Writes the spoken text as a 16-bit mono WAV file at espeak-ng's own rate (22050 Hz).

    Raises SettingsError when there is no such language or voice, StoreError when the place cannot be written.
    """
    speech = speak(text, language, voice or Voice())
    with places.writing(str(path)) as unfinished:
        soundfile.write(unfinished, speech.samples, speech.sample_rate, subtype="PCM_16", format="WAV")
    return path
