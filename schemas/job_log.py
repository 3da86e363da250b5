"""How a Ray job and whoever follows its log understand each other: the beginnings of its lines."""

PROGRESS_PREFIX = "progress "
"""Begins a line that tells how far a job is: `progress <done>/<total> <note>`."""
RESULT_PREFIX = "result "
"""Begins the line that holds the job's summary as JSON, for whoever has only the log."""
ERROR_PREFIX = "error "
"""Begins the one sentence with which a job ends that a person can mend."""
CLUSTER_PYTHON_VARIABLE = "DUBMILL_CLUSTER_PYTHON"
"""Environment variable: the Python of the cluster's data plane, where `python` on its PATH is another one."""
RUN_VARIABLE = "DUBMILL_RUN"
"""Environment variable: the name of a training run, the same over the retries of a job and another for each new run.
A named run goes on from its own state, and replaces another's."""
