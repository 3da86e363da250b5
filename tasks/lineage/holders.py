"""What outside of a store was made of its clips: checkpoints trained on its snapshots, dubs of its sources."""

from collections.abc import Collection, Iterable

from tasks import places
from tasks.lineage.checkpoints import find_checkpoints, is_of_snapshot
from tasks.lineage.dubs import find_dubs


def holding_models(folders: Iterable[str], snapshots: Collection[str]) -> list[str]:
    """Checkpoints under the folders that were trained on one of those snapshots, or on one that such a snapshot has replaced.

    Also those whose training began with such weights. Files that are no checkpoints of ours are passed over.
    """
    models = find_checkpoints(folders).found
    return sorted(
        model.location
        for model in models
        if any(is_of_snapshot(trained, name, "") for trained in (model.own_training, *model.header.ancestors) for name in snapshots)
    )


def holding_dubs(folders: Iterable[str], sources: Collection[str], contents: Collection[str]) -> list[str]:
    """Outputs under the folders whose video or speech is one of those sources (URIs, links followed), or of one of those contents."""
    dubs = find_dubs(folders)
    wanted = {places.followed(source) for source in sources}
    return sorted({str(row["output"]) for row in dubs.of_footage(wanted, frozenset(contents)).to_pylist()})
