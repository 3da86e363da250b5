"""The Parquet tables of a corpus store, of a bulk dubbing run and of an evaluation. No wall-clock time is in any of them."""

import pyarrow as pa

POSE_NUMBERS = 148
"""74 x, then 74 y: the networks' (2, 74)."""
CONTENT_NUMBERS = 114
"""57 x, then 57 y: the networks' (2, 57)."""
MEL_BANDS = 80
FACE_HASHES = 3
"""64-bit perceptual hashes of faces a clip."""
AUDIO_HASHES = 4
"""64-bit words of a clip's audio fingerprint."""


def _field(name: str, kind: pa.DataType, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


def _list_of(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("item", kind, nullable=False))


CLIPS = pa.schema(
    [
        _field("clip_id", pa.string()),  # 16 hex digits of the source's SHA-256, then -s<segment>t<track>
        _field("source", pa.string()),  # as given, links followed
        _field("speaker", pa.string()),
        _field("split", pa.string(), nullable=True),  # train | val | test as the lists of its layout say; null: it has none
        _field("segment_start_s", pa.float64()),
        _field("segment_end_s", pa.float64()),
        _field("track", pa.int32()),
        _field("frames", pa.int32()),
        _field("fps", pa.float64()),
        _field("duration_s", pa.float64()),
        _field("width", pa.int32()),  # of the source, pixels, rotation honoured
        _field("height", pa.int32()),
        _field("source_fps", pa.float64()),
        _field("face_px", pa.float32()),  # median over frames of the box's shorter side, source pixels
        _field("sharpness", pa.float32()),  # median over frames of the variance of the Laplacian of the grey face
        _field("brightness", pa.float32()),  # mean grey level of the faces, 0..255
        _field("detected_share", pa.float32()),  # share of frames whose face was found, not interpolated
        _field("yaw_low_deg", pa.float32()),  # 5th percentile over frames; positive: the head is turned to its own left
        _field("yaw_high_deg", pa.float32()),  # 95th percentile
        _field("yaw_extent_deg", pa.float32()),  # 95th percentile of the absolute value
        _field("pitch_low_deg", pa.float32()),  # 5th percentile; positive: the head looks up
        _field("pitch_high_deg", pa.float32()),
        _field("lip_activity", pa.float32()),  # standard deviation of the lip opening, shares of the box
        _field("loudness_db", pa.float32()),  # RMS of the clip's sound, dB under full scale
        _field("silence_share", pa.float32()),  # share of 40 ms pieces more than 40 dB under full scale
        _field("av_offset_frames", pa.float32(), nullable=True),  # frames by which the sound comes after the picture; null: not measured
        _field("av_confidence", pa.float32(), nullable=True),  # 0..1; null: not measured
        _field("av_method", pa.string(), nullable=True),  # lips | syncnet; null: not measured
        _field("face_hash", pa.list_(pa.field("item", pa.uint64(), nullable=False), FACE_HASHES)),  # perceptual, of frames at 10, 50 and 90 %
        _field("audio_hash", pa.list_(pa.field("item", pa.uint64(), nullable=False), AUDIO_HASHES)),  # perceptual, of the whole sound
        _field("faces_shard", pa.string()),  # file name under faces/
        _field("faces_offset", _list_of(pa.int64())),  # byte of the shard where each frame's picture starts
        _field("faces_size", _list_of(pa.int32())),  # bytes of each frame's picture
        _field("faces_crc32", _list_of(pa.uint32())),  # CRC-32 of each frame's coded picture
    ]
)

AUDIO = pa.schema(
    [
        _field("clip_id", pa.string()),
        _field("sample_rate", pa.int32()),
        _field("mel", _list_of(pa.list_(pa.field("item", pa.float32(), nullable=False), MEL_BANDS))),  # 80 mel frames a second
        _field("flac", pa.binary()),  # the mono waveform
    ]
)

LANDMARKS = pa.schema(
    [
        _field("clip_id", pa.string()),
        _field("frame", pa.int32()),  # 0-based, 25 a second, within the clip
        _field("box", pa.list_(pa.field("item", pa.float32(), nullable=False), 4)),  # x0, y0, x1, y1, source pixels
        _field("pose", pa.list_(pa.field("item", pa.float32(), nullable=False), POSE_NUMBERS)),  # 0..1 of the box
        _field("content", pa.list_(pa.field("item", pa.float32(), nullable=False), CONTENT_NUMBERS)),  # 0..1 of the box
        _field("lip_opening", pa.float32()),  # distance of the lips' outer middles, shares of the box
        _field("detected", pa.string()),  # detected | interpolated
    ]
)

REJECTS = pa.schema(
    [
        _field("source", pa.string()),
        _field("clip_id", pa.string(), nullable=True),  # null: it did not get that far
        _field("stage", pa.string()),  # probe | decode | audio | faces | clip | worker
        _field("reason", pa.string()),  # schemas.reasons.Reason
        _field("detail", pa.string()),
        _field("retryable", pa.bool_()),
    ]
)

LEFT_OUT = pa.schema(
    [
        _field("clip_id", pa.string()),
        _field("batch", pa.string()),
        _field("setting", pa.string()),  # the field of the snapshot's settings that left it out
        _field("value", pa.float64(), nullable=True),  # the clip's measure; null for twins
        _field("twin_of", pa.string(), nullable=True),  # the clip_id that was taken instead
    ]
)

DUB_RESULTS = pa.schema(
    [
        _field("job_id", pa.string()),
        _field("video", pa.string()),
        _field("speech", pa.string()),
        _field("output", pa.string(), nullable=True),  # null: nothing was written
        _field("status", pa.string()),  # done | failed
        _field("reason", pa.string(), nullable=True),  # schemas.reasons.Reason, null when done
        _field("detail", pa.string(), nullable=True),
        _field("duration_s", pa.float64(), nullable=True),  # of the output
        _field("frames", pa.int32(), nullable=True),
        _field("dubbed_frames", pa.int32(), nullable=True),  # the rest shows the source
        _field("frames_per_second", pa.float64(), nullable=True),  # speed of the work, not the frame rate
        _field("source_shown_s", pa.float64(), nullable=True),  # seconds that show the source
        _field("source_shown", pa.string(), nullable=True),  # JSON list of schemas.jobs.SourceShown: when and why
        _field("confidence", pa.list_(pa.float32()), nullable=True),  # of each second, 0..1
        _field("worst", pa.string(), nullable=True),  # JSON list of schemas.jobs.Moment: where to look first
        _field("landmark_generator", pa.string()),  # version: first 16 hex digits of the file's SHA-256
        _field("renderer", pa.string()),
        _field("fingerprint", pa.string()),  # of the job's row and the settings that shape its output: other ones are another dub
        _field("landmark_generator_sha256", pa.string(), nullable=True),  # of the whole file; null, as all that follow, where nothing was made
        _field("renderer_sha256", pa.string(), nullable=True),
        _field("landmark_generator_snapshot", pa.string(), nullable=True),  # that it was trained on; null where its header names none
        _field("renderer_snapshot", pa.string(), nullable=True),
        _field("video_sha256", pa.string(), nullable=True),  # its first 16 digits begin the clip_ids of that content
        _field("speech_sha256", pa.string(), nullable=True),
        _field("consent", pa.string(), nullable=True),  # reference of the consent, where one was given
        _field("dag_run", pa.string(), nullable=True),  # <dag>/<run>/<task> of Airflow; null: nobody named it
    ]
)

EVALUATED_CLIPS = pa.schema(
    [
        _field("name", pa.string()),  # of the pair
        _field("side", pa.string()),  # generated | real
        _field("status", pa.string()),  # compared | misaligned | failed; of what is not compared nothing is measured
        _field("detail", pa.string()),  # why a pair is misaligned or failed; empty when compared
        _field("location", pa.string(), nullable=True),
        _field("speaker", pa.string(), nullable=True),
        _field("language", pa.string(), nullable=True),
        _field("speech", pa.string(), nullable=True),  # same | other: whether both sides say the same
        _field("frames", pa.int32(), nullable=True),  # at 25 a second
        _field("shift_frames", pa.int32(), nullable=True),  # by which the generated head comes after the real one; null: it moves too little to tell
        _field("overlap", pa.float64(), nullable=True),  # of the faces' boxes, intersection over union, median
        _field("face_px", pa.float64(), nullable=True),  # shorter side of the real face's box, median
        _field("yaw_deg", pa.float64(), nullable=True),  # 95th percentile of how far the real head is turned
        _field("covered_share", pa.float64(), nullable=True),  # of the real frames with something before the mouth
        _field("faces_found", pa.float64(), nullable=True),  # share of the frames with a real face in which this side has one too
        _field("psnr", pa.float64(), nullable=True),
        _field("ssim", pa.float64(), nullable=True),
        _field("lpips", pa.float64(), nullable=True),
        _field("csim", pa.float64(), nullable=True),
        _field("lmd", pa.float64(), nullable=True),
        _field("lip_lmd", pa.float64(), nullable=True),
        _field("opening_squares", pa.float64(), nullable=True),  # sum over frames of the squared lip opening about its mean, mouth widths
        _field("real_opening_squares", pa.float64(), nullable=True),  # the same of the real mouth
        _field("articulation", pa.float64(), nullable=True),
        _field("closed_frames", pa.int32(), nullable=True),  # closures: see tasks.evaluation.closures.Closures
        _field("right_closed_frames", pa.int32(), nullable=True),
        _field("real_closures", pa.int32(), nullable=True),
        _field("met_closures", pa.int32(), nullable=True),
        _field("leak", pa.float64(), nullable=True),
        _field("leak_frames", pa.int32(), nullable=True),
        _field("silence_frames", pa.int32(), nullable=True),
        _field("silence_squares", pa.float64(), nullable=True),  # of the lip opening in silence
        _field("real_speech_frames", pa.int32(), nullable=True),
        _field("real_speech_squares", pa.float64(), nullable=True),  # of the real lip opening in speech
        _field("silence_motion", pa.float64(), nullable=True),
        _field("silence_opening", pa.float64(), nullable=True),
        _field("jitter", pa.float64(), nullable=True),
        _field("mouth_detail", pa.float64(), nullable=True),  # sum over pictures of the variance of the Laplacian inside the mouth
        _field("real_mouth_detail", pa.float64(), nullable=True),
        _field("mouth_sharpness", pa.float64(), nullable=True),
        _field("seam", pa.float64(), nullable=True),
        _field("sync_confidence", pa.float64(), nullable=True),
        _field("sync_distance", pa.float64(), nullable=True),
        _field("sync_offset", pa.float64(), nullable=True),  # frames by which the sound comes after the picture
        _field("lip_speech_correlation", pa.float64(), nullable=True),
    ]
)
