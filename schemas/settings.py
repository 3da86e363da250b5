"""Every setting of dubmill. One class a command; one flat YAML file each, the same for command line, Ray job and DAG."""

import difflib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self, TypeVar

import fsspec
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from schemas.errors import SettingsError
from schemas.locations import absolute_location, reachable, without_secrets

SCHEMA_VERSION = 2
"""Grows when a table changes its meaning; part of every batch's name."""
LOCATION: dict[str, JsonValue] = {"location": True}
"""Marks a field that names places (paths or URIs), which mean something else, or nothing, on another machine."""


class Settings(BaseModel):
    """Frozen settings that refuse fields they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")  # a metric that is no number stays readable in JSON

    def replaced(self, **changes: object) -> Self:
        """The same settings with some fields changed, checked again. Changes that are None are left out."""
        return check_settings(type(self), self.model_dump() | {name: value for name, value in changes.items() if value is not None})

    def locations(self) -> dict[str, tuple[str, ...]]:
        """The places that these settings name, by the field that names them; fields that name none are left out."""
        marked = [name for name, field in type(self).model_fields.items() if field.json_schema_extra == LOCATION]
        values = {name: getattr(self, name) for name in marked}
        return {name: (value,) if isinstance(value, str) else tuple(value) for name, value in values.items() if value}

    def with_absolute_locations(self) -> Self:
        """The same settings for a process of this machine that runs in another folder: paths become absolute, URIs stay."""
        places = {name: tuple(map(absolute_location, named)) for name, named in self.locations().items()}
        return self.replaced(**{name: named[0] if isinstance(getattr(self, name), str) else named for name, named in places.items()})


Padding = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
"""A crop's padding as a share; above 2 the face would be a fifth of the picture and less."""


def _anchor_of(padding: float | str) -> Literal["all-points", "upper-face"]:
    """The anchor where none is given: of all that was tried, only the upper face's keeps the source's speech out of the dub."""
    return "all-points" if isinstance(padding, str) else "upper-face"


class CropSettings(Settings):
    """The crop of a face: one setting for corpus, checkpoints and dubbing."""

    padding: Padding | Literal["iplap-train", "iplap-dub"] = Field(
        default=0.08, description="share of the longer side of the points' bounds, or one of the original's two crops"
    )
    anchor: Literal["all-points", "upper-face"] = Field(
        default_factory=lambda given: _anchor_of(given["padding"]),
        description="what the box follows: the upper face alone, so that an open jaw does not squeeze the crop, or all points, as the original's crops do",
    )
    size: Literal[128, 256] = Field(default=128, description="side of the square face picture, in pixels")


class MelSettings(Settings):
    """The mel spectrogram of the numeric contract; stored so that a checkpoint can refuse sound it was not made for."""

    sample_rate: Literal[16000] = Field(default=16000, description="Hz")
    window: Literal[800] = Field(default=800, description="samples; also the FFT's length")
    hop: Literal[200] = Field(default=200, description="samples: 80 mel frames a second")
    bands: Literal[80] = 80
    lowest_hz: Literal[55] = 55
    highest_hz: Literal[7600] = 7600


CROP_SAYS = "cut of the faces: padding (a share of the face's longer side, iplap-train or iplap-dub), anchor (upper-face or all-points), size (128 or 256)"
PICTURE_SAYS = "coding of face pictures: png and webp are lossless, jpeg is quality 95"


class FormatSettings(Settings):
    """What is frozen in a store: asking for another format is an error."""

    crop: CropSettings = Field(default=CropSettings(), description=CROP_SAYS)
    mel: MelSettings = MelSettings()
    fps: Literal[25] = Field(default=25, description="frames a second of stored clips")
    segment_s: float = Field(default=10.0, ge=1.0, le=60.0, description="the longest clip, in seconds")
    picture: Literal["png", "webp", "jpeg"] = Field(default="png", description=PICTURE_SAYS)


class CuttingSettings(Settings):
    """How a source is cut into clips. Recorded in each plan and part of a batch's name: a batch that is resumed keeps its own.

    They are no format: a store may hold batches made with others, and its known sources are not read again for that.
    """

    detector: Literal["mediapipe", "dlib", "both"] = Field(
        default="mediapipe",
        description="what finds a face: FaceMesh's own detector as in the original, dlib's frontal one first, or dlib's where that finds none",
    )
    mesh: Literal["static", "tracking"] = Field(
        default="static", description="FaceMesh on each picture by itself as in the original, or following the face it found before"
    )
    max_faces: int = Field(
        default=4, ge=1, le=16, description="faces followed at once; each that is there costs, and with `mesh: tracking` also looking for more than one"
    )
    speaker: Literal["largest", "moving-lips", "all"] = Field(
        default="largest", description="which of several faces becomes clips: the largest, the one whose lips move with the sound, or each"
    )
    scene_threshold: float | None = Field(
        default=27.0,
        gt=0,
        description="PySceneDetect's content score (0..255) from which on a change is a scene change; none: no cuts are looked for",
    )
    sync_weights: str | None = Field(
        default=None, description="SyncNet's weights, which then measure the A/V offset instead of lip motion", json_schema_extra=LOCATION
    )


class IngestSettings(CuttingSettings):
    """`dubmill ingest`: footage in, a batch of clips in the store out."""

    sources: tuple[str, ...] = Field(default=(), description="folders, files or s3:// prefixes", json_schema_extra=LOCATION)
    store: str = Field(description="folder or s3:// prefix of the corpus store", json_schema_extra=LOCATION)
    layout: Literal["auto", "folder", "lrs2", "cmlr"] = Field(default="auto", description="how sources are arranged; auto recognises the three")
    pretrain: bool = Field(default=False, description="with lrs2: take its pretrain folder too")
    speakers: str | None = Field(default=None, description="CSV file with the columns source, speaker", json_schema_extra=LOCATION)
    crop: CropSettings = Field(default=CropSettings(), description=CROP_SAYS)
    picture: Literal["png", "webp", "jpeg"] = Field(default="png", description=PICTURE_SAYS)
    segment_s: float = Field(default=10.0, ge=1.0, le=60.0, description="the longest clip, in seconds")
    batch_sources: int = Field(default=256, ge=1, description="most sources a batch: what is lost when a worker dies, and a handful of files")
    batch_mb: int = Field(default=512, ge=1, description="most megabytes of footage a batch, for the same reasons; a larger source is a batch by itself")
    shard_mb: int = Field(default=256, ge=1, description="size of a face shard, in megabytes")
    workers: int | None = Field(default=None, ge=1, description="actors; default: one a core")
    clip_time_limit_s: float = Field(
        default=1800.0, gt=0, description="longest time for a source, in seconds, for each 10 minutes of its footage and at least once"
    )
    clips_a_mesh: int = Field(default=200, ge=1, description="clips after which FaceMesh is made anew: it is known to leak")

    @property
    def cutting(self) -> CuttingSettings:
        """The part of these settings that each plan records."""
        return CuttingSettings.model_validate({name: getattr(self, name) for name in CuttingSettings.model_fields})

    @property
    def format(self) -> FormatSettings:
        """The part of these settings that a store freezes."""
        return FormatSettings(crop=self.crop, picture=self.picture, segment_s=self.segment_s)


class SnapshotSettings(Settings):
    """`dubmill corpus snapshot`: which clips a training run reads. May change at any time; nothing is deleted by it."""

    name: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*)?$",
        description="file name of the snapshot, which begins with no dot; empty: made from its content",
    )
    min_frames: int = Field(default=25, ge=5, description="a second: the original trains on clips of 25 frames or more")
    max_duration_s: float = Field(default=10.0, gt=0, description="longest clip, in seconds; stores made with longer segments may hold such")
    min_face_px: float = Field(
        default=96.0, ge=0, description="shorter side of the face box in source pixels, median over the clip; landmarks go clearly wrong under 80"
    )
    min_detected_share: float = Field(
        default=0.95, ge=0, le=1, description="share of frames in which the face was found and not interpolated: one guess in twenty is enough"
    )
    max_yaw_deg: float = Field(default=40.0, gt=0, le=180, description="95th percentile of how far the head is turned: beyond, half of the mouth is hidden")
    max_offset_frames: float = Field(
        default=5.0, ge=0, description="largest A/V offset, where it was measured with confidence: more is hardly a late sound, but another one"
    )
    min_offset_confidence: float = Field(
        default=0.5, ge=0, le=1, description="confidence from which on a measured A/V offset is believed; 19 in 20 of those are right within a frame"
    )
    shift_sound: bool = Field(default=True, description="move the sound of a clip by its A/V offset, where that was measured with confidence")
    twins: Literal["one", "all"] = Field(default="one", description="of clips with the same picture and sound that differ in their coding: one, or all")
    layout_splits: bool = Field(default=True, description="keep the splits of the lists of a layout (lrs2, cmlr); clips on no list are trained on")
    val_share: float = Field(default=0.1, ge=0, le=0.5, description="share of speakers (or clips; with endings: of each source's length) for validation")
    test_share: float = Field(default=0.1, ge=0, le=0.5, description="share of speakers (or clips; with endings: of each source's length) for tests")
    hold_out: Literal["speakers", "endings"] = Field(
        default="speakers", description="what validation and tests see: speakers (or clips, of few speakers), or each source's end, for one person's footage"
    )
    seed: int = Field(default=0, description="which speakers or clips fall into which split")


class TrainingSettings(Settings):
    """What both trainers share."""

    store: str = Field(description="corpus store to train on", json_schema_extra=LOCATION)
    out: str = Field(description="folder for the weights and the state that resuming needs", json_schema_extra=LOCATION)
    snapshot: str | None = Field(default=None, description="name of a snapshot in the store; default: one is frozen first")
    preset: Literal["published", "small"] = Field(
        default="published", description="network sizes: the paper's, or small for CPUs and tests; start_from brings its own"
    )
    start_from: str | None = Field(default=None, description="checkpoint whose weights a fresh run begins with, or a current.json", json_schema_extra=LOCATION)
    freeze: tuple[str, ...] = Field(
        default=(), description="what does not learn: beginnings of parameter names, such as audio_encoder; batch-norm: every batch normalisation"
    )
    steps: int = Field(default=20000, ge=1)
    batch_size: int = Field(default=128, ge=1, description="samples a step over all workers; a corpus smaller than that gives what it has")
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = Field(default="constant", description="the learning rate over the steps: as it is, or falling to its last share")
    rate_warm_up_steps: int = Field(default=0, ge=0, description="steps over which the learning rate rises from nothing")
    final_rate_share: float = Field(default=0.01, ge=0, le=1, description="with cosine: the share of the learning rate that is left at the last step")
    clip_gradient_norm: float = Field(default=1.0, gt=0, description="gradients are scaled down to this norm")
    ema_decay: float = Field(
        default=0.999, ge=0, lt=1, description="share of the averaged weights, those that are used, that stays at a step; less at the beginning; 0: no average"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="of the networks' arithmetic; auto: bf16 on GPUs that have it, fp16 with scaled losses on older ones, fp32 on CPUs"
    )
    compile: bool = Field(default=False, description="torch.compile: minutes before the first step, faster ones after")
    channels_last: bool = Field(default=True, description="on GPUs: pictures with their colours innermost in memory, as tensor cores want them")
    flip_share: float = Field(default=0.0, ge=0, le=1, description="share of samples that are mirrored")
    reference_jitter_frames: int = Field(
        default=0, ge=0, le=25, description="references' content or sketches are taken from up to so many frames earlier or later than their pose or picture"
    )
    silence_share: float = Field(default=0.0, ge=0, lt=1, description="share of samples in which silence is heard and the closed mouth stays still")
    seed: int = 0
    workers: int = Field(default=1, ge=1, description="Ray Train workers")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batches_ahead: int = Field(default=2, ge=1, le=64, description="batches made while one is learnt from, each on a thread of its own")
    memory_limit_mb: int = Field(default=8192, ge=0, description="of each worker: landmarks and mel spectrograms beyond this are mapped from files, not held")
    cache: str | None = Field(
        default=None,
        description="local folder for such files and for pictures from buckets; default: one of each user in the machine's temporary folder",
        json_schema_extra=LOCATION,
    )
    picture_cache_mb: int = Field(default=20480, ge=0, description="most megabytes of face pictures from a bucket that are kept locally, of each split")
    validate_every: int = Field(default=500, ge=1, description="steps between validations and checkpoints")
    validation_samples: int = Field(default=64, ge=1, description="fixed samples of the validation split")
    validation_clips: int = Field(default=8, ge=1, description="fixed clips of the validation split, for what only shows over time")
    preview_every: int = Field(default=5000, ge=0, description="steps between two short clips to look at; 0: none")
    stop_after: int | None = Field(default=None, ge=1, description="validations without a better score after which training stops; none: it does not")
    keep_checkpoints: int = Field(default=3, ge=1, description="newest states that are kept, beside the best one")
    max_non_finite: int = Field(default=20, ge=0, description="steps with a loss that is no number, after which training stops")
    resume: bool = Field(default=False, description="go on from the state in `out`")


class LandmarkGeneratorTraining(TrainingSettings):
    """`dubmill train landmark-generator` (paper 3.1)."""

    references: int = Field(default=15, ge=1, description="reference landmark frames outside the window")
    silence_share: float = Field(
        default=0.1, ge=0, lt=1, description="share of samples in which silence is heard and the closed mouth stays still: else a dub's mouth moves in pauses"
    )
    velocity_weight: float = Field(default=1.0, ge=0, description="weight of the velocity loss beside L1")
    lip_opening_weight: float = Field(
        default=1.0, ge=0, description="weight of the loss on how far the lips are apart, beside L1; the published recipe has 0, and mouths that hardly open"
    )


class RendererTraining(TrainingSettings):
    """`dubmill train renderer` (paper 3.2)."""

    batch_size: int = Field(default=96, ge=1, description="samples a step over all workers; a corpus smaller than that gives what it has")
    size: Literal[128, 256] = Field(default=128, description="side of the face picture in pixels; the corpus must hold this size")
    references: int = Field(default=3, ge=1, description="reference pictures")
    warm_up_epochs: float = Field(default=25.0, ge=0, description="epochs with the warp loss alone (the original: 25)")
    warm_up_steps: int | None = Field(default=None, ge=0, description="the same in steps, in place of epochs")
    warp_weight: float = Field(default=2.5, ge=0, description="weight of the VGG-19 distance of the warped references, in every phase; 0: no such loss")
    perceptual_weight: float = Field(default=4.0, ge=0, description="weight of the VGG-19 distance of the generated faces, with its style part")
    adversarial_weight: float = Field(default=0.25, ge=0, description="weight of what the discriminator thinks of the generated faces")
    feature_matching_weight: float = Field(default=2.5, ge=0, description="weight of the distance of real and generated faces in the discriminator's layers")
    pixel_weight: float = Field(
        default=0.0, ge=0, description="L1 of pixels, in every phase; the published recipe has none, short runs without ImageNet features need it"
    )
    perceptual_weights: str | None = Field(
        default=None,
        description="VGG-19 features (.safetensors), or a published renderer checkpoint that carries them",
        json_schema_extra=LOCATION,
    )
    colour_jitter: float = Field(default=0.0, ge=0, le=0.5, description="how far brightness, contrast and saturation of a sample are changed, as a share")
    fid_weights: str | None = Field(
        default=None, description="Inception weights of pytorch-fid (pt_inception-2015-12-05-6726825d.pth), to measure FID with", json_schema_extra=LOCATION
    )
    lpips_weights: str | None = Field(
        default=None, description="AlexNet's ImageNet weights in torchvision's form (.pth or .safetensors), to measure LPIPS with", json_schema_extra=LOCATION
    )
    identity_weights: str | None = Field(
        default=None, description="face embedding (.onnx, 112 pixels), to measure likeness of identity (CSIM) with", json_schema_extra=LOCATION
    )


AnyTraining = LandmarkGeneratorTraining | RendererTraining


class FinetuneSettings(Settings):
    """`dubmill finetune`: both networks adapted to the videos of one person."""

    videos: tuple[str, ...] = Field(default=(), description="videos of one person", json_schema_extra=LOCATION)
    start_from: str = Field(description="folder with landmark-generator.safetensors and renderer.safetensors", json_schema_extra=LOCATION)
    out: str = Field(description="folder for the adapted weights, the person's corpus and the runs' states", json_schema_extra=LOCATION)
    held_out_share: float = Field(default=0.2, gt=0, le=0.5, description="share at the end of each video that is not learnt from: it tells when to stop")
    learning_rate: float = Field(default=2e-5, gt=0, description="low: what the networks know of other people must not be lost")
    steps: int = Field(default=600, ge=1, description="most steps of each network")
    landmark_batch_size: int = Field(default=32, ge=2)
    renderer_batch_size: int = Field(default=8, ge=2)
    freeze_landmark_generator: tuple[str, ...] = Field(default=("audio_encoder", "batch-norm"), description="what does not learn: how speech is heard")
    freeze_renderer: tuple[str, ...] = Field(default=("translation.audio_encoder", "batch-norm"), description="what does not learn")
    validate_every: int = Field(default=25, ge=1, description="steps between two looks at the held-out part")
    stop_after: int = Field(default=4, ge=1, description="looks without a better score after which training stops")
    perceptual_weights: str | None = Field(default=None, description="as in training of the renderer", json_schema_extra=LOCATION)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0


class FreezeSettings(Settings):
    """The job that freezes a snapshot before a training run."""

    store: str = Field(description="corpus store", json_schema_extra=LOCATION)
    snapshot: str | None = Field(default=None, description="name of a snapshot that is there and is to be used; none: one is frozen")
    selection: SnapshotSettings = SnapshotSettings()


class MaintainSettings(Settings):
    """The jobs that keep a corpus store in order: `corpus gc` and `corpus verify` on a schedule."""

    store: str = Field(description="corpus store", json_schema_extra=LOCATION)
    steps: tuple[Literal["gc", "verify"], ...] = Field(
        default=("gc", "verify"),
        min_length=1,
        description="gc: deletes batches that no snapshot names and what killed runs left behind; verify: reads batches back",
    )
    older_than_days: float = Field(default=30.0, ge=0, description="gc leaves alone what is younger, in days")
    dry_run: bool = Field(default=False, description="gc says what it would delete, and deletes nothing")
    verify_batches: int | None = Field(
        default=100, ge=1, description="most batches that are read back in a run, others each day; none: all. Snapshots and plans are all looked at"
    )


class Limit(Settings):
    """What a figure must be: at least so much, at most so much, or both."""

    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a threshold says at_least, at_most, or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is larger than at_most, so that nothing passes")
        return self


LandmarkMeasure = Literal[
    "l1",
    "velocity",
    "lip_opening",
    "lmd_px",
    "articulation",
    "closure_f1",
    "closure_precision",
    "closure_recall",
    "leak",
    "silence_opening",
    "silence_motion",
]
"""What validation measures of a landmark generator; `tasks.evaluation.metric_meanings` says what each is."""
RendererMeasure = Literal["psnr", "mouth_lmd_px", "ssim", "mouth_sharpness", "faces_found", "lpips", "fid", "csim", "l1"]
"""Likewise of a renderer."""
THRESHOLDS_SAY = "{name: {at_least: 0.1}}, at_most likewise, or both; of leak and sync_offset the size counts; what was not measured does not pass"


class ModelsSettings(Settings):
    """Where models are published, and what it takes: the same for both networks."""

    models: str = Field(description="folder or s3:// prefix of published models: <models>/<kind>/<version>/", json_schema_extra=LOCATION)
    licences: str | None = Field(
        default=None, description="CSV file with the columns source, licence; a source is a file, or a folder for all within", json_schema_extra=LOCATION
    )
    min_gain_share: float = Field(
        default=0.0, ge=0, description="by more than what share of the published score the new one must be better; 0.03 keeps out what is luck of the seed"
    )
    """The scores of three seeds of one recipe lay up to 1.7 % (landmark generator) and 3.3 % (renderer) apart, after few steps. The default is 0
    all the same: late in a training real gains are smaller than that, and a network that is equally good does no harm."""
    landmark_generator_thresholds: dict[LandmarkMeasure, Limit] = Field(
        default_factory=dict, description=f"what a landmark generator must measure on the validation split to be published: {THRESHOLDS_SAY}"
    )
    renderer_thresholds: dict[RendererMeasure, Limit] = Field(default_factory=dict, description="likewise of a renderer")
    device: Literal["auto", "cpu", "cuda"] = "auto"


class PublishSettings(ModelsSettings):
    """The job that publishes a trained network if it is better than the published one."""

    kind: Literal["landmark-generator", "renderer"]
    run: str = Field(description="the training run's folder `out`", json_schema_extra=LOCATION)
    store: str = Field(description="the corpus store that it was trained on", json_schema_extra=LOCATION)


def _rate_as_text(value: object) -> object:
    """YAML, JSON and Parquet have `fps: 25` as a number; 25.0 is the same rate."""
    return f"{value:g}" if isinstance(value, int | float) else value


OutputRate = Annotated[Literal["source", "25"], BeforeValidator(_rate_as_text)]
"""Frame rate of an output: the source's, or the 25 that the networks work at."""


FACE_WORDS = ("largest", "speaking", "left", "right")
"""What the setting `face` may be besides a number and a picture."""


def names_a_picture(face: str) -> bool:
    """Whether the setting `face` names a picture of the person, and not a place or a rule."""
    return face not in FACE_WORDS and not face.isdecimal()


KEEPING = frozenset({"templates", "templates_max_gb", "templates_max_age_days"})
"""Settings of a dub that say what is kept for others, and change nothing of the dub itself."""


LONGEST_KEPT_DAYS = 36_500
"""A century: for ever, and still a date that can be told."""


class TemplateSettings(Settings):
    """How much is kept of videos between dubs."""

    max_gb: float = Field(default=20.0, gt=0, description="gigabytes kept; the longest unused go first")
    max_age_days: float = Field(default=30.0, gt=0, le=LONGEST_KEPT_DAYS, description="days since the last use after which a template goes")


class DubSettings(Settings):
    """`dubmill dub`: one video and one speech to one dubbed video."""

    landmark_generator: str = Field(description="checkpoint (.safetensors), or the current.json of published ones", json_schema_extra=LOCATION)
    renderer: str = Field(description="checkpoint (.safetensors), or the current.json of published ones", json_schema_extra=LOCATION)
    fps: OutputRate = Field(default="source", description="frame rate of the output")
    loop: Literal["forth-and-back", "cut"] = Field(
        default="forth-and-back", description="speech longer than the video: played forth and back, or from the start again with a cut"
    )
    face: str = Field(
        default="largest",
        min_length=1,
        coerce_numbers_to_str=True,
        description="largest, speaking, left, right, a number from 0 (left to right), all by the first 40 s of the video, or a picture of the person",
    )
    references: int = Field(default=25, ge=1, le=100, description="reference pictures for the renderer: 25, 10, 5 or 3 trade looks for speed")
    landmark_references: int = Field(default=15, ge=1, le=100, description="reference landmarks for the landmark generator")
    smoothing: Literal["savitzky-golay", "none"] = Field(
        default="savitzky-golay", description="boxes and landmarks over time, without lag and never across a cut: jitter is what viewers notice first"
    )
    rest_in_silence: bool = Field(default=True, description="where nobody speaks the mouth comes to rest, also when the source is talking there")
    hold_to_head: bool = Field(
        default=True, description="mouth and jaw lie on the head where the source's do, and speech moves them from there; false: wherever they are generated"
    )
    fade_from_yaw_deg: float = Field(default=35.0, ge=0, le=180, description="head turned so far: the dub begins to fade out")
    gone_at_yaw_deg: float = Field(default=50.0, ge=0, le=180, description="head turned so far: the source alone is shown; a missed word beats a monster")
    min_face_px: float = Field(default=40.0, ge=0, description="shorter side of the face box in source pixels under which the source is shown")
    keep_covered: bool = Field(default=True, description="show the source where a hand or a microphone covers the mouth")
    match_colour: bool = Field(default=True, description="colours of the new face are matched to the source's along the seam")
    sharpening: float = Field(default=0.0, ge=0, le=2, description="of the generated face; 1 is LIP_MASK's kernel, 0 none")
    jaw_predictor: str | None = Field(
        default=None, description="dlib's 68-point predictor, which then draws the jaw's outline for the mask", json_schema_extra=LOCATION
    )
    soundtrack: str | None = Field(default=None, description="the sound that the output carries; default: the speech", json_schema_extra=LOCATION)
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="fp32 is exact; bf16 and fp16 are faster where the device has them")
    compile: bool = Field(default=False, description="torch.compile: minutes before the first frame, faster afterwards; for long work on GPUs")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_frames: int | None = Field(default=None, ge=1, description="frames rendered at once; default: as many as fit into memory_share")
    memory_share: float = Field(default=0.5, gt=0, le=1, description="share of the device's free memory that rendering may take")
    encoder: Literal["auto", "x264", "nvenc"] = Field(default="auto", description="H.264 encoder; auto: NVENC where there is one and the networks are on it")
    encoder_preset: Literal["veryfast", "fast", "medium", "slow"] = Field(default="medium", description="x264: slower is smaller")
    crf: int = Field(default=16, ge=0, le=51, description="x264 quality: lower is better and larger")
    hdr: Literal["tone-map", "refuse"] = Field(default="tone-map", description="HDR sources: brought to BT.709, or refused")
    patch: str | None = Field(
        default=None, description="folder for the face region as pictures with alpha (PNG, a file a frame), for editors", json_schema_extra=LOCATION
    )
    templates: str | None = Field(
        default=None, description="folder or prefix where what depends on the video alone is kept for the next dub", json_schema_extra=LOCATION
    )
    templates_max_gb: float = Field(default=TemplateSettings().max_gb, gt=0, description="gigabytes kept there; the longest unused go first")
    templates_max_age_days: float = Field(
        default=TemplateSettings().max_age_days, gt=0, le=LONGEST_KEPT_DAYS, description="days since its last use after which a template goes"
    )
    consent: str | None = Field(default=None, coerce_numbers_to_str=True, description="reference of the consent to this dub, written into the output")

    @property
    def template_settings(self) -> TemplateSettings:
        """How much is kept in `templates`."""
        return TemplateSettings(max_gb=self.templates_max_gb, max_age_days=self.templates_max_age_days)

    def locations(self) -> dict[str, tuple[str, ...]]:
        """As of all settings; a picture of the person is a place, too."""
        return super().locations() | ({"face": (self.face,)} if names_a_picture(self.face) else {})


class BulkDubSettings(DubSettings):
    """`dubmill bulk-dub`: a list of jobs."""

    jobs: str = Field(
        description="CSV, JSONL or Parquet with job_id, video, speech, out; for the DAG also a folder or prefix of such lists", json_schema_extra=LOCATION
    )
    out: str = Field(description="folder or s3:// prefix for outputs and results", json_schema_extra=LOCATION)
    workers: int | None = Field(default=None, ge=1, description="actors; default: one a GPU, or one on CPU; more than there is room for let a cluster grow")
    canary: int = Field(default=50, ge=0, description="jobs done first; if more than half of them fail, the rest is not begun; 0: none")
    time_limit_factor: float = Field(default=600.0, gt=0, description="longest time for a job, in seconds for each second of its speech; at least ten minutes")


MetricName = Literal[
    "psnr",
    "ssim",
    "lpips",
    "fid",
    "lmd",
    "lip_lmd",
    "csim",
    "articulation",
    "closure_precision",
    "closure_recall",
    "leak",
    "silence_motion",
    "silence_opening",
    "jitter",
    "mouth_sharpness",
    "seam",
    "sync_confidence",
    "sync_distance",
    "sync_offset",
    "lip_speech_correlation",
]
"""What `dubmill evaluate` measures, in the order in which it is told; `tasks.evaluation.metrics` says what each is."""


class EvaluateSettings(Settings):
    """`dubmill evaluate`: generated videos beside the real ones, or the test clips of a store, dubbed with their own speech."""

    generated: str | None = Field(default=None, description="generated video, or a folder or s3:// prefix of them", json_schema_extra=LOCATION)
    real: str | None = Field(default=None, description="the real video, or a folder or prefix of them under the same names", json_schema_extra=LOCATION)
    allow_unpaired: bool = Field(default=False, description="videos without a partner of their name are left out, and named; otherwise they are an error")
    store: str | None = Field(default=None, description="corpus store whose test clips are dubbed and compared, in place of videos", json_schema_extra=LOCATION)
    snapshot: str | None = Field(default=None, description="the store's snapshot that says which clips are test clips")
    split: Literal["train", "val", "test"] = Field(default="test", description="split of the snapshot; only the test split was seen by no training")
    most_clips: int | None = Field(default=None, ge=1, description="most clips of the split, evenly chosen; none: all")
    other_speech: bool = Field(default=True, description="each clip of the store is dubbed with another's speech too: only so the source's mouth can leak")
    landmark_generator: str | None = Field(default=None, description="checkpoint, or the current.json of published ones", json_schema_extra=LOCATION)
    renderer: str | None = Field(default=None, description="checkpoint, or the current.json of published ones", json_schema_extra=LOCATION)
    dub_settings: str | None = Field(default=None, description="settings file of `dubmill dub`: how the store's clips are dubbed", json_schema_extra=LOCATION)
    out: str = Field(default="evaluation", description="folder or prefix for clips.parquet, summary.json and the dubbed clips", json_schema_extra=LOCATION)
    metrics: tuple[MetricName, ...] = Field(default=(), description="what is measured; none named: all")
    conditions: str | None = Field(
        default=None,
        description="CSV file with the columns name, and speaker or language or both: of a video's name or a clip's id",
        json_schema_extra=LOCATION,
    )
    speech: Literal["auto", "same", "other"] = Field(
        default="auto", description="whether both videos of a pair say the same; auto: their sound tracks tell, and where one has none they do"
    )
    compare_misaligned: bool = Field(default=False, description="pairs that are not aligned are compared all the same, which says little of the dub")
    length_difference_frames: int = Field(default=0, ge=0, description="at the end of a pair, by how many frames one may be longer")
    longest_s: float = Field(default=60.0, gt=0, description="seconds of each pair that are looked at, from its beginning")
    pictures: int = Field(default=50, ge=1, description="pictures of each pair that are compared as pictures, evenly chosen; landmarks are of all frames")
    crop: CropSettings = Field(default=CropSettings(), description=f"{CROP_SAYS}; a store's own is taken")
    lpips_weights: str | None = Field(default=None, description="AlexNet's ImageNet weights in torchvision's form, for LPIPS", json_schema_extra=LOCATION)
    fid_weights: str | None = Field(default=None, description="Inception weights of pytorch-fid, for FID", json_schema_extra=LOCATION)
    identity_weights: str | None = Field(default=None, description="face embedding (.onnx, 112 pixels), for CSIM", json_schema_extra=LOCATION)
    sync_weights: str | None = Field(default=None, description="SyncNet's weights (syncnet_v2.model), for LSE-C and LSE-D", json_schema_extra=LOCATION)
    thresholds: dict[MetricName, Limit] = Field(
        default_factory=dict, description=f"what the generated video's figures must be for the evaluation to be passed: {THRESHOLDS_SAY}"
    )
    resamples: int = Field(default=1000, ge=1, description="of the bootstrap over clips, for the intervals of 95 %")
    seed: int = Field(default=0, description="of the bootstrap")
    workers: int | None = Field(default=None, ge=1, description="actors; default: one a GPU for a store, one a core for videos")
    device: Literal["auto", "cpu", "cuda"] = "auto"


DubMetricName = Literal[
    "confidence",
    "least_confidence",
    "source_shown_share",
    "leak",
    "silence_motion",
    "silence_opening",
    "jitter",
    "seam",
    "sync_confidence",
    "sync_distance",
    "sync_offset",
    "lip_speech_correlation",
]
"""What is known of a dub of which there is no real video: from its result row, and measured beside its source."""


class ReviewSettings(Settings):
    """`dubmill review`: what a review room shows of a bulk run."""

    dub_settings: str = Field(description="settings file of the bulk run", json_schema_extra=LOCATION)
    jobs: str | None = Field(default=None, description="the run's job list, where the settings file names another or a folder", json_schema_extra=LOCATION)
    out: str | None = Field(default=None, description="the run's folder of outputs and results, likewise", json_schema_extra=LOCATION)
    review: str = Field(description="folder or s3:// prefix of review material: one of those that the review room looks at", json_schema_extra=LOCATION)
    batch: str | None = Field(default=None, description="what the batch is called; default: as the job list's file")
    title: str = Field(default="", description="for people; default: the batch's name")
    thresholds: dict[DubMetricName, Limit] = Field(
        default_factory=dict, description=f"what a dub's figures must be before it can be approved: {THRESHOLDS_SAY}"
    )
    min_passed_share: float = Field(
        default=0.0, ge=0, le=1, description="share of all jobs of the run whose dubs must pass before any can be approved; failed jobs do not"
    )
    longest_s: float = Field(default=600.0, gt=0, description="seconds of each dub that are measured, from its beginning; all of it is shown")
    preview_height: int = Field(default=540, ge=144, le=2160, description="videos that are higher are shown, and measured, at this height")
    preview_crf: int = Field(default=23, ge=0, le=51, description="x264 quality of previews: lower is better and larger")
    sync_weights: str | None = Field(default=None, description="SyncNet's weights (syncnet_v2.model), for how lips and sound agree", json_schema_extra=LOCATION)


class ReleaseSettings(Settings):
    """What follows the verdicts of a review room: where approved dubs go, and where lists of dubs to be made again are dropped."""

    release: str = Field(description="folder or s3:// prefix for approved dubs: <release>/<batch>/<out of the job list>", json_schema_extra=LOCATION)
    lists: str = Field(description="folder or s3:// prefix of job lists: what `jobs` names in the settings of bulk_dubbing", json_schema_extra=LOCATION)
    approved: str = Field(default="", description="list of approved dubs to release; the DAG writes and names it", json_schema_extra=LOCATION)


AnySettings = TypeVar("AnySettings", bound=BaseModel)
NOT_REACHED = "default_factory_not_called"
"""pydantic's word for a default that follows from another field, which is wrong itself and named already."""


KEY_ITSELF = "[key]"
"""What pydantic adds to the name of a key that is itself at fault."""


def check_settings(kind: type[AnySettings], values: object, called: Mapping[str, str] = MappingProxyType({})) -> AnySettings:
    """Settings of that kind from plain values; SettingsError names every field that is wrong in one sentence.

    called: what a person calls a field, where that is not its name: the option of a command line.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_fault(kind, fault, called) for fault in error.errors() if fault["type"] != NOT_REACHED)
        raise SettingsError(f"These settings cannot be used: {faults}.") from error


def _fault(kind: type[BaseModel], fault: ErrorDetails, called: Mapping[str, str]) -> str:
    """What is wrong with one field, in a person's words where pydantic's are for programmers."""
    field, *within = map(str, fault["loc"] or ("settings",))
    name = ".".join([called.get(field, field), *(step for step in within if step != KEY_ITSELF)])
    if fault["type"] == "missing" or (fault["type"] == "string_type" and fault["input"] is None):  # a line of the guide that nobody filled in
        return f"{name} is not given"
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
        nearest = difflib.get_close_matches(name, kind.model_fields, n=1)
        return f"{name} is no setting here ({f'did you mean {nearest[0]}?' if nearest else '`dubmill settings` prints those there are'})"
    if fault["type"] == "tuple_type":
        return f"{name} must be a list"
    return f"{name}: {fault['msg']}"


def settings_guide(kind: type[BaseModel]) -> str:
    """A settings file of that kind, every field with what it means and its default, for a person to change: YAML with comments."""
    return "\n".join(line for name, field in kind.model_fields.items() for line in _guide_lines(name, field))


def _guide_lines(name: str, field: FieldInfo) -> Iterator[str]:
    if field.description:
        yield f"# {field.description}"
    if field.is_required():
        yield f"{name}:  # must be given"
        return
    default = field.get_default(call_default_factory=True)
    plain = default.model_dump(mode="json") if isinstance(default, BaseModel) else list(default) if isinstance(default, tuple) else default
    yield f"{name}: {json.dumps(plain, ensure_ascii=False)}"


def read_settings(location: str) -> dict[str, object]:
    """The plain values of a flat YAML settings file at a path or URI."""
    shown = without_secrets(location)
    try:
        with reachable(location, SettingsError), fsspec.open(location, "rb") as file:
            content = file.read()
        values = yaml.safe_load(content.decode("utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"The settings file {shown} is not there.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(without_secrets(f"The settings file {location} cannot be read: {_first_line(error)}.")) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"The settings file {shown} is not a list of names and values.")
    return values


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def write_settings(settings: Settings, location: str) -> None:
    """Writes settings as the flat YAML file that `read_settings` reads."""
    with reachable(location, SettingsError), fsspec.open(location, "wt", encoding="utf-8") as file:
        yaml.safe_dump(settings.model_dump(mode="json"), file, allow_unicode=True, sort_keys=False)
