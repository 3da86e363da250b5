"""SyncNet (Chung and Zisserman, "Out of time", 2016): embeds five frames of a face and their 0.2 s of sound near each other.

Written afresh to take the published weights (`syncnet_v2.model`): layers stand where the published state dict numbers them.
"""

import torch
from torch import Tensor, nn

from models.iplap import read_published_tensors
from schemas.errors import CheckpointError
from schemas.locations import without_secrets

WINDOW_FRAMES = 5
"""Frames that one embedding sees."""
FACE_PX = 224
"""Side of the face pictures."""
MFCC_A_FRAME = 4
"""The sound's coefficients come 100 times a second."""
MFCC_WINDOW = WINDOW_FRAMES * MFCC_A_FRAME
EMBEDDING = 1024

RENAMED = {"netcnnlip": "face_features", "netfclip": "face_head", "netcnnaud": "sound_features", "netfcaud": "sound_head"}
"""First part of the published names and of ours; what follows (a layer's number and leaf) is the same."""


class SyncNet(nn.Module):
    """Two encoders into one space of 1024 numbers, where what belongs together lies near (euclidean distance). For evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.face_features = _face_features()
        self.face_head = _head()
        self.sound_features = _sound_features()
        self.sound_head = _head()

    def embed_faces(self, pictures: Tensor) -> Tensor:
        """Embeddings (F - 4, 1024) of F consecutive BGR faces (F, 3, 224, 224) float32 in 0..255: the n-th sees frames n to n + 4."""
        features = self.face_features(pictures.transpose(0, 1)[None])  # convolutions over time give all windows at once
        return self.face_head(features[0, :, :, 0, 0].T)

    def embed_sounds(self, mfcc: Tensor) -> Tensor:
        """Embeddings (N, 1024) of N pieces of 0.2 s of sound, (N, 13, 20) float32 MFCC."""
        return self.sound_head(self.sound_features(mfcc[:, None]).flatten(1))


def load_syncnet(location: str) -> SyncNet:
    """SyncNet with the published weights of a path or URI, ready to evaluate; a file that would run code is refused.

    Raises CheckpointError when the file is missing, damaged, or not SyncNet's weights.
    """
    published = read_published_tensors(location).tensors
    with torch.device("meta"):
        network = SyncNet()
    try:
        network.load_state_dict({our_name(name): tensor for name, tensor in published.items()}, assign=True)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{without_secrets(location)} does not hold the weights of SyncNet (syncnet_v2.model).") from error
    return network.float().eval()


def our_name(published: str) -> str:
    """Our name of a published tensor. KeyError when it is none of SyncNet's."""
    module, _, rest = published.partition(".")
    return f"{RENAMED[module]}.{rest}"


def _face_features() -> nn.Sequential:
    return nn.Sequential(
        *_convolution3d(3, 96, (5, 7, 7), stride=2),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
        *_convolution3d(96, 256, (1, 5, 5), stride=2, padding=1),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        *_convolution3d(256, 256, (1, 3, 3), padding=1),
        *_convolution3d(256, 256, (1, 3, 3), padding=1),
        *_convolution3d(256, 256, (1, 3, 3), padding=1),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
        *_convolution3d(256, 512, (1, 6, 6)),
    )


def _sound_features() -> nn.Sequential:
    return nn.Sequential(
        *_convolution2d(1, 64, (3, 3), padding=1),
        nn.Identity(),  # the published pooling of size 1, which counts as a layer
        *_convolution2d(64, 192, (3, 3), padding=1),
        nn.MaxPool2d((3, 3), (1, 2)),
        *_convolution2d(192, 384, (3, 3), padding=1),
        *_convolution2d(384, 256, (3, 3), padding=1),
        *_convolution2d(256, 256, (3, 3), padding=1),
        nn.MaxPool2d((3, 3), (2, 2)),
        *_convolution2d(256, 512, (5, 4)),
    )


def _convolution3d(width_in: int, width: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 0) -> tuple[nn.Module, ...]:
    """A convolution whose stride and padding leave time alone, its normalisation and its activation."""
    convolution = nn.Conv3d(width_in, width, kernel, stride=(1, stride, stride), padding=(0, padding, padding))
    return convolution, nn.BatchNorm3d(width), nn.ReLU(inplace=True)


def _convolution2d(width_in: int, width: int, kernel: tuple[int, int], padding: int = 0) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width_in, width, kernel, padding=padding), nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBEDDING))
