"""What the DAGs make and wait for. An event of an asset carries the run's URIs and counts."""

from airflow.sdk import Asset

CORPUS = Asset("corpus")
"""The corpus store, grown by `ingest_corpus`."""
LANDMARK_GENERATOR = Asset("landmark-generator")
"""The published landmark generator; updated by `train_landmark_generator` when a better one is published."""
RENDERER = Asset("renderer")
"""The published renderer; updated by `train_renderer` when a better one is published."""
EVALUATION = Asset("evaluation")
"""What the published networks were measured to be; updated by `evaluate_models`."""
DUBS = Asset("dubs")
"""Dubbed videos; each event carries the counts of one run of `bulk_dubbing`, which also remembers here which lists were done."""
