"""The operators of dubmill's DAGs: an importable package that Airflow does not parse for DAGs."""
