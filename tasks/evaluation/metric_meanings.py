"""What the numbers of a training run mean, and which way they get better, in a reader's words."""

from tasks.evaluation.mouth_landmarks import LOST_SHARE

NO_MEASURES = frozenset({"step", "split", "phase", "held_out", "skipped", "loss_scale", "gradient_norm"})
"""What else a row of metrics.jsonl says: of these there are no curves, and nothing is told of how good they are."""
LOST_FACE = f"a generated picture in which no face is found counts as {LOST_SHARE:.0%} of its side ({LOST_SHARE * 128:g} of 128 pixels)"
LOWER, HIGHER, ONE, NOUGHT = "lower is better", "higher is better", "1 is best", "nearest to 0 is best"

BOTH = {
    "loss": ("weighted sum that training makes smaller", LOWER),
    "learning_rate": ("how large a step of training is", ""),
}
LANDMARK_GENERATOR = {
    "l1": ("mean distance of the landmarks' coordinates, in shares of the face box; chooses the weights to use", LOWER),
    "velocity": ("difference of the landmarks' steps from frame to frame: jitter, and movement that is missed", LOWER),
    "lip_opening": ("how much further the lips are apart, or less far, than the real ones, in shares of the face box", LOWER),
    "lmd_px": ("mean distance of the mouth's points from the real ones, in pixels of the crop", LOWER),
    "articulation": ("spread of the lip opening over that of the real lips: below 1 the mouth mumbles, above it overdoes it", ONE),
    "closure_f1": ("closed lips at the right moments, as for p, b and m: precision and recall in one", HIGHER),
    "closure_precision": ("share of the frames with closed lips in which the real lips are closed within two frames", HIGHER),
    "closure_recall": ("share of the moments at which the real lips close that are met within two frames", HIGHER),
    "leak": ("how far the lips follow the source's own under another's speech (r); aim below 0.1 either way", NOUGHT),
    "silence_opening": ("how far the lips stay apart in silence, in widths of the mouth", LOWER),
    "silence_motion": ("how much the lips move in silence, over how much the real ones move in speech", LOWER),
}
RENDERER = {
    "psnr": ("likeness of the generated to the real face in dB; with the mouth's distance it chooses the weights to use", HIGHER),
    "mouth_lmd_px": (f"distance of the mouth's landmarks found on the generated and on the real face, in pixels; {LOST_FACE}", LOWER),
    "ssim": ("likeness of structure, up to 1", HIGHER),
    "mouth_sharpness": ("detail inside the mouth over that of the real one: below 1 it is blurred, above it is noise", ONE),
    "faces_found": ("share of the generated faces in which a face is found", HIGHER),
    "lpips": ("distance as a network trained on people's judgement sees it", LOWER),
    "fid": ("distance of all generated from all real faces; compare it only within one split of one size", LOWER),
    "csim": ("likeness of identity, up to 1", HIGHER),
    "l1": ("mean distance of pixels, 0..1", LOWER),
    "warp": ("perceptual distance of the warped reference to the real face", LOWER),
    "warp_l1": ("mean distance of the warped reference's pixels", LOWER),
    "pixel": ("mean distance of pixels, 0..1", LOWER),
    "perceptual": ("perceptual and style distance to the real face", LOWER),
    "adversarial": ("how easily the discriminator tells the pictures from real ones", LOWER),
    "feature_matching": ("difference of what the discriminator sees in both", LOWER),
    "discriminator": ("how wrong the discriminator is; near a half it can only guess", ""),
}
OF_KIND = {"landmark generator": LANDMARK_GENERATOR, "renderer": RENDERER}


def meaning(name: str, kind: str) -> str:
    """One clause on a number of a network's kind ("landmark generator" or "renderer") with the way it gets better; empty where nothing is known."""
    explained, better = (BOTH | OF_KIND.get(kind, {})).get(name, ("", ""))
    return f"{explained}; {better}" if better else explained
