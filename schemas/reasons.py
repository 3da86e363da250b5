"""Why a source, a clip or a dubbing job was turned away."""

from enum import StrEnum


class Reason(StrEnum):
    """A reason that tables keep. `EXPLANATIONS` says each to a person, `RETRYABLE` which may go away by themselves."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    NOT_MEDIA = "not-media"
    DAMAGED = "damaged"
    NO_VIDEO = "no-video"
    NO_AUDIO = "no-audio"
    SILENT_AUDIO = "silent-audio"
    TOO_SHORT = "too-short"
    NO_FACE = "no-face"
    OTHER_FACE = "other-face"
    FORGOTTEN = "forgotten"
    TIME_LIMIT = "time-limit"
    WORKER_LOST = "worker-lost"
    OUTPUT_UNWRITABLE = "output-unwritable"
    BAD_SETTINGS = "bad-settings"
    INTERNAL = "internal"


EXPLANATIONS: dict[Reason, str] = {
    Reason.MISSING: "the file is not there; check its path",
    Reason.UNREADABLE: "the file could not be read just now; check permissions and the network, then run again",
    Reason.NOT_MEDIA: "the file is not video, sound or a picture that ffmpeg knows; give another file",
    Reason.DAMAGED: "the file is damaged or cut off; copy or export it again",
    Reason.NO_VIDEO: "there is no picture stream in it; give a video",
    Reason.NO_AUDIO: "there is no sound in it; give a file with a sound track",
    Reason.SILENT_AUDIO: "its sound track is silent; give a file with speech",
    Reason.TOO_SHORT: "it is too short, or its face was found in too few frames on end (the detail says so); give a longer piece, or a larger face",
    Reason.NO_FACE: "no face was found in it; give footage of a face seen from the front; a store made with `detector: both` finds more small faces",
    Reason.OTHER_FACE: "another face of the same moment was taken for the speaker; a store made with `speaker: all` keeps both",
    Reason.FORGOTTEN: "its content was taken out of the store on request and does not come back",
    Reason.TIME_LIMIT: "it took longer than its time limit; raise the limit or cut it into pieces",
    Reason.WORKER_LOST: "the worker that handled it died; run again, and if it dies again look at the file",
    Reason.OUTPUT_UNWRITABLE: "the result could not be written; check the output's place and its free space",
    Reason.BAD_SETTINGS: "its settings cannot be used; the detail says which",
    Reason.INTERNAL: "something went wrong that is not the file's fault; the detail says what",
}

RETRYABLE: frozenset[Reason] = frozenset({Reason.UNREADABLE, Reason.TIME_LIMIT, Reason.WORKER_LOST, Reason.OUTPUT_UNWRITABLE, Reason.INTERNAL})

WHY_SOURCE_SHOWN: dict[str, str] = {
    "no-face": "no face is found",
    "turned-away": "the head is turned away",
    "too-small": "the face is too small",
    "covered": "the mouth is covered",
    "not-spoken": "nobody is to speak there",
}
"""Why a stretch of a dub shows the source (`schemas.jobs.SourceShown`), as said to a person."""
