"""What a weights file says of itself, in the header of the safetensors file."""

from typing import Literal

from pydantic import Field

from schemas.settings import CropSettings, MelSettings, Settings

HEADER_KEY = "dubmill"
"""The name of our header among the metadata of a safetensors file."""
Kind = Literal["landmark-generator", "renderer"]


class LandmarkGeneratorSize(Settings):
    """Sizes of the landmark generator; the defaults are the published ones (paper 3.1)."""

    width: int = Field(default=512, description="d_model, and the encoders' last width; their other widths follow it")
    layers: int = 4
    heads: int = 4
    feed_forward: int = 1024
    dropout: float = 0.1


class RendererSize(Settings):
    """Sizes of the renderer; the defaults are the published ones (paper 3.2)."""

    width: int = Field(default=256, description="channels at half resolution; the other widths follow it")
    size: Literal[128, 256] = Field(default=128, description="side of the face picture in pixels")


class Ancestor(Settings):
    """Weights that training began with: their data went into the network too."""

    version: str = Field(description="the beginning of the SHA-256 of their file")
    origin: Literal["trained", "imported"]
    step: int
    snapshot: str | None = None
    snapshot_checksum: str = ""
    store: str | None = None


class CheckpointHeader(Settings):
    """The header of a checkpoint. Crop and mel must match whatever the weights are used for."""

    kind: Kind
    architecture: LandmarkGeneratorSize | RendererSize
    crop: CropSettings
    mel: MelSettings = MelSettings()
    step: int = 0
    origin: Literal["trained", "imported"] = "trained"
    snapshot: str | None = None
    snapshot_checksum: str = Field(default="", description="as the snapshot's own file says it: two stores may each have a snapshot of one name")
    store: str | None = Field(default=None, description="where the corpus store of the snapshot lay when it was trained on")
    dag_run: str = Field(default="", description="<dag>/<run>/<task> of Airflow that trained it; empty: nobody named it")
    imported_sha256: str | None = Field(default=None, description="of the published file that was imported")
    metrics: dict[str, float] = Field(default_factory=dict)
    perceptual_weights: Literal["imagenet", "seeded-random"] | None = Field(default=None, description="which VGG-19 features the renderer's losses used")
    ancestors: tuple[Ancestor, ...] = Field(default=(), description="weights that this training began with, and theirs before them; the oldest first")
    code_version: str = ""
