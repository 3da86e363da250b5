"""torchvision over another build of PyTorch: its compiled operators do not load there, and its import ends at the first that is missing.

Nothing here uses those operators, but pytorch-fid and lpips import torchvision for its networks.
"""

import functools
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import torch

NAMESPACE = "torchvision"
WANTED_AT_IMPORT = ("nms", "qnms")
"""Operators that torchvision describes without a look whether its compiled part is there."""
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@functools.cache
def prepare_torchvision() -> torch.library.Library | None:
    """To be called before torchvision is imported. Where its compiled operators cannot be loaded, declares the wanted ones, which do nothing.

    Gives the declarations, which last as long as what is given; None where they are not needed. ImportError without torchvision.
    """
    if _compiled_operators_load():
        return None
    declarations = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in WANTED_AT_IMPORT:
        if not hasattr(getattr(torch.ops, NAMESPACE), name):
            declarations.define(name + SIGNATURE)  # type: ignore[no-untyped-call]
    return declarations


def _compiled_operators_load() -> bool:
    try:
        torch.ops.load_library(str(_compiled_part()))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True


def _compiled_part() -> Path:
    """The file that torchvision will load; where there is none, a file that is not there."""
    package = find_spec(NAMESPACE)
    if package is None or package.origin is None:
        raise ImportError("torchvision is not installed", name=NAMESPACE)
    places = (Path(package.origin).with_name("_C" + suffix) for suffix in EXTENSION_SUFFIXES)
    return next((place for place in places if place.exists()), Path(package.origin).with_name("_C"))
