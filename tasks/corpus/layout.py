"""Where things lie in a corpus store, and the folders' order of writing: `clips` last, since it makes a batch finished."""

from tasks import places

SETTINGS = "settings.json"
PLANS = "plans"
FACES = "faces"
AUDIO = "audio"
LANDMARKS = "landmarks"
REJECTS = "rejects"
CLIPS = "clips"
SNAPSHOTS = "snapshots"
LEFT_OUT = ".left-out.parquet"
"""How the name of the table of clips that a snapshot left out ends."""
TABLES = (AUDIO, LANDMARKS, REJECTS, CLIPS)
"""The Parquet folders, in the order in which a batch writes them."""


def table_location(store: str, folder: str, batch: str) -> str:
    """The Parquet file of a batch."""
    return places.join(store, folder, f"{batch}.parquet")


def plan_location(store: str, batch: str) -> str:
    """The plan of a batch."""
    return places.join(store, PLANS, f"{batch}.json")


def shard_location(store: str, shard: str) -> str:
    """A shard of face pictures, by its file name."""
    return places.join(store, FACES, shard)


def shard_name(batch: str, number: int) -> str:
    """File name of the shard of that number (0-based) of a batch."""
    return f"{batch}-{number:03d}.tar"


def batch_of_shard(shard: str) -> str:
    """The batch that a shard belongs to, by its file name."""
    return shard.rpartition("-")[0]


def snapshot_location(store: str, name: str) -> str:
    """The file of a snapshot."""
    return places.join(store, SNAPSHOTS, f"{name}.json")


def left_out_location(store: str, name: str) -> str:
    """The table of the clips that a snapshot left out, and why."""
    return places.join(store, SNAPSHOTS, f"{name}{LEFT_OUT}")
