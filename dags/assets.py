"""What the DAGs make and wait for. An event of an asset carries the run's URIs and counts."""

from airflow.sdk import Asset

CORPUS = Asset("corpus")
"""The corpus store, grown by `ingest_corpus`."""
LANDMARK_GENERATOR = Asset("landmark-generator")
"""The landmark generator's weights, made by `train_landmark_generator`."""
RENDERER = Asset("renderer")
"""The renderer's weights, made by `train_renderer`."""
