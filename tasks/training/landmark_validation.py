"""How good a landmark generator is, on fixed samples and on clips that it speaks as dubbing has it speak: window by window, frame by frame."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from models.losses import velocity_loss
from schemas.settings import LandmarkGeneratorTraining
from tasks.evaluation import lips
from tasks.evaluation.articulation import LEAST_SPREAD, articulation, spread
from tasks.evaluation.closures import Closures, closed_moments, compare_closures
from tasks.evaluation.leak import average_correlation, leak
from tasks.faces.references import even_steps
from tasks.faces.sketch import draw_sketch
from tasks.training.footage import WINDOW, FloatArray, Footage
from tasks.training.previews import side_by_side
from tasks.training.samples import LandmarkBatch, LandmarkSamples, to_device
from tasks.training.spoken_clips import WINDOWS_AT_ONCE, SpeakingNetwork, SpokenClip
from tasks.training.validation import VALIDATION_SEED, Picture, Preview, Validation

SHORTEST_PREVIEW_FRAMES = 25
"""A second: less is over before anything is seen."""
PREVIEW_PX = 256
"""Side of one face of a preview."""


@dataclass(frozen=True)
class Speech:
    """What a network made of the clips; content in shares of the box."""

    own: list[FloatArray]
    """(T, 2, 57) of each clip under its own speech"""
    foreign: list[FloatArray]
    """of each clip under that of its partner, as long as the shorter of both; empty where there is no partner"""
    silent: list[FloatArray]
    """(T, 2, 57) of each clip in silence"""


class LandmarkValidation(Validation):
    """Measures a landmark generator on a split, always on the same samples and clips, whatever the run's seed.

    l1, velocity (shares of the box) and lmd_px (mouth points, pixels of the crop) on single windows; on clips as dubbing speaks them:
    articulation, closure_precision, closure_recall, closure_f1 and leak (see `tasks.evaluation`), silence_opening (how far the inner lips
    are apart in silence, mouth widths) and silence_motion (spread of the lip opening in silence, as a share of the real one in speech).
    The network is left in evaluation mode.
    """

    def __init__(self, footage: Footage, settings: LandmarkGeneratorTraining, crop_size: int, device: torch.device) -> None:
        self.footage = footage
        self.crop_size = crop_size
        self.device = device
        self._samples = LandmarkSamples(footage, settings.references).batch(VALIDATION_SEED, 0, settings.validation_samples)
        chosen = np.unique(even_steps(footage.clips, settings.validation_clips))
        self._clips = [SpokenClip.of(footage, int(clip), settings.references) for clip in chosen]
        self._partners = [_partner(index, [footage.clip_ids[clip.clip] for clip in self._clips]) for index in range(len(self._clips))]

    @torch.no_grad()
    def measure(self, network: nn.Module) -> dict[str, float]:
        """The metrics, most telling first."""
        network.eval()
        found = self._on_samples(network) | self._on_clips(self._speak_all(SpeakingNetwork(network, self.device)))
        return {name: value for name, value in found.items() if value is not None and name not in self.absent}

    def picture(self, network: nn.Module) -> Picture | None:  # noqa: ARG002 - it makes none
        """None: what it makes only shows in motion."""
        return None

    @torch.no_grad()
    def preview(self, network: nn.Module) -> Preview | None:
        """The longest clip as sketches side by side, each named: the real face, and its pose with the mouth of its own speech and of another's.

        The sound is the clip's own. Where all clips are of one source there is no other's speech.
        """
        speaking = SpeakingNetwork(network, self.device)
        index = int(np.argmax([len(clip.frames) for clip in self._clips]))
        clip, partner = self._clips[index], self._partners[index]
        panels = {"real": clip.content, "own speech, heard": speaking.speak(clip, speaking.hear(clip.mel_windows))}
        if partner is not None:
            panels["another's speech"] = speaking.speak(clip, speaking.hear(self._clips[partner].mel_windows))
        length = min(map(len, panels.values()))
        if length < SHORTEST_PREVIEW_FRAMES:
            return None
        frames = side_by_side({name: _panel(clip, points[:length]) for name, points in panels.items()})
        first = int(clip.frames[0] + self.footage.sound_shift[clip.clip])
        return Preview(frames, self.footage.batches[clip.clip], self.footage.clip_ids[clip.clip], first)

    @functools.cached_property
    def absent(self) -> Mapping[str, str]:
        """Metrics that the clips do not allow, and why."""
        absent: dict[str, str] = {}
        if not any(closed_moments(clip.closed(clip.content)) for clip in self._clips):
            absent |= dict.fromkeys(("closure_precision", "closure_recall", "closure_f1"), "In the clips that are looked at nobody closes the lips.")
        if spread([clip.opening(clip.content) for clip in self._clips]) <= LEAST_SPREAD:
            absent |= dict.fromkeys(("articulation", "silence_motion"), "In the clips that are looked at no mouth moves.")
        if all(partner is None for partner in self._partners):
            absent["leak"] = "The clips that are looked at are of one source: there is no other speech to let it say."
        return absent

    def _on_samples(self, network: nn.Module) -> dict[str, float | None]:
        sums: dict[str, float] = {}
        for first in range(0, len(self._samples.mels), WINDOWS_AT_ONCE):
            batch = to_device(LandmarkBatch(*(tensor[first : first + WINDOWS_AT_ONCE] for tensor in self._samples)), self.device)
            generated = network(batch.mels, batch.pose, batch.reference_pose, batch.reference_content).float()
            for name, mean in self._distances(generated, batch.content).items():
                sums[name] = sums.get(name, 0.0) + mean.item() * len(batch.mels)
        return {name: total / len(self._samples.mels) for name, total in sums.items()}

    def _distances(self, generated: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        lip_steps = (generated - real)[..., lips.JAW_POINTS :] * self.crop_size
        return {"l1": F.l1_loss(generated, real), "velocity": velocity_loss(generated, real), "lmd_px": lip_steps.norm(dim=-2).mean()}

    def _on_clips(self, speech: Speech) -> dict[str, float | None]:
        clips = self._clips
        real = [clip.opening(clip.content) for clip in clips]
        counts = (compare_closures(clip.closed(made), clip.closed(clip.content)) for clip, made in zip(clips, speech.own, strict=True))
        closures = sum(counts, start=Closures())
        return {
            "articulation": articulation(self._openings(speech.own), real),
            "closure_f1": closures.f1,
            "closure_precision": closures.precision,
            "closure_recall": closures.recall,
            "leak": self._leak(speech, real),
            "silence_opening": float(np.concatenate([clip.inner_opening(made) for clip, made in zip(clips, speech.silent, strict=True)]).mean()),
            "silence_motion": articulation(self._openings(speech.silent), real),
        }

    def _leak(self, speech: Speech, real: Sequence[FloatArray]) -> float | None:
        """What both the network and the partner's own lips make of the speech is no leak."""
        own, foreign = self._openings(speech.own), self._openings(speech.foreign)
        pairs = [(index, partner, len(foreign[index])) for index, partner in enumerate(self._partners) if partner is not None]
        found = [leak(foreign[index], real[index][:length], [own[partner][:length], real[partner][:length]]) for index, partner, length in pairs]
        return average_correlation(found, [length for *_, length in pairs])

    def _speak_all(self, network: SpeakingNetwork) -> Speech:
        heard = [network.hear(clip.mel_windows) for clip in self._clips]
        foreign = (None if partner is None else heard[partner] for partner in self._partners)
        return Speech(
            own=[network.speak(clip, sound) for clip, sound in zip(self._clips, heard, strict=True)],
            foreign=[clip.content[:0] if sound is None else network.speak(clip, sound) for clip, sound in zip(self._clips, foreign, strict=True)],
            silent=[network.speak(clip, network.hear_silence(len(clip.mel_windows))) for clip in self._clips],
        )

    def _openings(self, contents: Sequence[FloatArray]) -> list[FloatArray]:
        return [clip.opening(content) for clip, content in zip(self._clips, contents, strict=True)]


def _partner(index: int, clip_ids: Sequence[str]) -> int | None:
    """The next clip of another source, and so most often of another speaker, round in a ring; None where there is no other source."""
    ring = [(index + step) % len(clip_ids) for step in range(1, len(clip_ids))]
    return next((other for other in ring if _source(clip_ids[other]) != _source(clip_ids[index])), None)


def _source(clip_id: str) -> str:
    return clip_id.partition("-")[0]


def _panel(clip: SpokenClip, contents: FloatArray) -> Picture:
    """The clip's head with the content (T, 2, 57) of each frame, as sketches (T, PREVIEW_PX, PREVIEW_PX, 3) uint8."""
    poses, sizes = clip.pose_windows[:, WINDOW // 2], clip.box_sizes.tolist()
    return np.stack([draw_sketch(poses[frame], content, (sizes[frame][1], sizes[frame][0]), PREVIEW_PX) for frame, content in enumerate(contents)])
