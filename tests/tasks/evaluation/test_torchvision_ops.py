import subprocess
import sys
from pathlib import Path

from tasks.evaluation.torchvision_ops import prepare_torchvision

ROOT = Path(__file__).parents[3]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_torchvision_is_imported_whether_its_compiled_part_loads_or_not() -> None:
    first = prepare_torchvision()
    from torchvision.models import alexnet

    assert alexnet(weights=None).features[0].out_channels == 64
    assert prepare_torchvision() is first


def test_nothing_is_declared_where_the_compiled_part_loads() -> None:
    """A stand-in for a torchvision that fits: its operators are there once its library is loaded."""
    assert run(
        "import torch\nfrom tasks.evaluation import torchvision_ops\ntorch.ops.load_library = lambda path: None\n"
        "print(torchvision_ops.prepare_torchvision(), hasattr(torch.ops.torchvision, 'nms'))"
    ) == "None False"  # fmt: skip


def test_a_machine_without_torchvision_is_told_so() -> None:
    assert run(
        "import sys\nsys.modules['torchvision'] = None\nfrom tasks.evaluation.torchvision_ops import prepare_torchvision\n"
        "try:\n    prepare_torchvision()\nexcept ImportError as error:\n    print(error)"
    ) == "torchvision is not installed"  # fmt: skip
