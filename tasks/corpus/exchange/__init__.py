"""Exchange with other programs: what IP_LAP's preprocessing writes, out of a corpus store and into one."""

from tasks.corpus.exchange.iplap_export import export_iplap
from tasks.corpus.exchange.iplap_import import import_iplap

__all__ = ["export_iplap", "import_iplap"]
