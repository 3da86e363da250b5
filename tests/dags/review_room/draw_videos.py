"""Draws a source and a dub of a face that is not one: `python draw_videos.py FOLDER NAME SECONDS`. Runs in the data environment, which has PyAV."""

import sys
from pathlib import Path

import av
import cv2
import numpy as np

FPS, WIDTH, HEIGHT, SOUND_HZ = 25, 480, 270, 16000


def main(folder: Path, name: str, seconds: float) -> None:
    """Writes NAME.source.mp4 and NAME.dub.mp4: the same head, whose mouth says something else."""
    for which, pace in (("source", 2.1), ("dub", 3.7)):
        _encode(folder / f"{name}.{which}.mp4", seconds, pace)


def _encode(path: Path, seconds: float, pace: float) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "28", "g": "12"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
        for number in range(int(seconds * FPS)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(_picture(number, pace), format="rgb24")))
        container.mux(video.encode())
        times = np.arange(int(seconds * SOUND_HZ)) / SOUND_HZ
        wave = (0.2 * np.sin(2 * np.pi * 170 * times) * np.abs(np.sin(np.pi * pace * times))).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = SOUND_HZ
        container.mux(sound.encode(frame))
        container.mux(sound.encode())


def _picture(number: int, pace: float) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH, 3), (58, 74, 92), np.uint8)
    x = WIDTH // 2 + int(14 * np.sin(number / 17))
    cv2.ellipse(picture, (x, 140), (66, 88), 0, 0, 360, (222, 184, 155), -1, cv2.LINE_AA)
    for side in (-26, 26):
        cv2.ellipse(picture, (x + side, 118), (10, 6), 0, 0, 360, (70, 50, 45), -1, cv2.LINE_AA)
    opening = int(3 + 15 * abs(np.sin(np.pi * pace * number / FPS)))
    cv2.ellipse(picture, (x, 184), (25, opening), 0, 0, 360, (130, 45, 52), -1, cv2.LINE_AA)
    cv2.putText(picture, str(number), (12, HEIGHT - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (235, 235, 235), 2, cv2.LINE_AA)
    for bit in range(10):  # the frame's number for a test to read: white squares are ones
        cv2.rectangle(picture, (12 + 20 * bit, 12), (28 + 20 * bit, 28), (255, 255, 255) if number >> bit & 1 else (0, 0, 0), -1)
    return picture


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
