"""How a task is spread over many things on a cluster. Each job runs as `python -m ray_jobs.NAME --settings URI`."""
