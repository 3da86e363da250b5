"""Published models, and which of them is in use.

<models>/<kind>/current.json            which version is in use: {"version", "weights"}; written last, whole
<models>/<kind>/<version>/<kind>.safetensors, README.md, metrics.json, settings.yaml, curves.svg: never changed
"""

from typing import TypeVar

from pydantic import Field, ValidationError

from schemas.checkpoints import Kind
from schemas.errors import CheckpointError, StoreError
from schemas.locations import without_secrets
from schemas.settings import DubSettings, Settings
from tasks import places

CURRENT = "current.json"

AnyDub = TypeVar("AnyDub", bound=DubSettings)


class Current(Settings):
    """What `current.json` says."""

    version: str
    weights: str = Field(description="relative to the folder of this file, which may be moved as a whole")


def decision_location(run: str) -> str:
    """The file in a training run's folder that says whether its network was published when that was last tried, and why (PublishSummary)."""
    return places.join(run, "publishing.json")


def current_location(models: str, kind: Kind) -> str:
    """The file that says which version of a kind is in use."""
    return places.join(models, kind, CURRENT)


def version_location(models: str, kind: Kind, version: str, *names: str) -> str:
    """A version's folder, or a file in it."""
    return places.join(models, kind, version, *names)


def read_current(location: str) -> Current | None:
    """Which version is in use; None: none yet. StoreError when the file cannot be read."""
    try:
        return Current.model_validate_json(places.read_bytes(location))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StoreError(f"{without_secrets(location)} does not say which model is in use; remove it, and publish anew.") from error


def write_current(location: str, current: Current) -> None:
    """Puts a version into use: whoever reads sees the former one or this one."""
    places.write_bytes(location, _content(current))


def _content(current: Current) -> bytes:
    return current.model_dump_json(indent=2).encode()


def replace_current(location: str, former: Current | None, current: Current) -> bool:
    """Puts a version into use if `former` still is; False: somebody else has put another into use, which stays.

    Of many who publish the first version exactly one gets True. A later version is written right after the look: two that do so within
    the same milliseconds both get True, and the second one's is in use. (A lock would outlive whoever is killed.)
    """
    if former is None:
        return places.write_once(location, _content(current))
    if read_current(location) != former:
        return False
    write_current(location, current)
    return True


def weights_in_use(location: str) -> str:
    """The weights that a `current.json` names; any other location stays as it is. CheckpointError when no model is published there."""
    if places.name_of(location) != CURRENT:
        return location
    current = read_current(location)
    if current is None:
        raise CheckpointError(f"No model is published at {without_secrets(location)} yet; train one, or give a checkpoint.")
    folder = location.removesuffix(CURRENT)  # empty where the file is in the current folder
    return f"{folder}{current.weights}"


def with_weights_in_use(settings: AnyDub) -> AnyDub:
    """The same settings with weights in the place of `current.json`: looked up once, so that a whole run has the same ones."""
    return settings.replaced(landmark_generator=weights_in_use(settings.landmark_generator), renderer=weights_in_use(settings.renderer))
