"""Exchange with other programs: what IP_LAP's preprocessing writes, out of a corpus store and into one."""

from tasks.corpus.exchange.iplap_export import export_iplap

__all__ = ["export_iplap"]
