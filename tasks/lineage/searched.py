"""All places that a search for lineage looks through."""

from dataclasses import dataclass

from tasks.lineage.checkpoints import Models
from tasks.lineage.corpora import Corpora
from tasks.lineage.dubs import Dubs


@dataclass(frozen=True)
class Searched:
    """The stores, models and dubs that were found."""

    corpora: Corpora
    models: Models
    dubs: Dubs
