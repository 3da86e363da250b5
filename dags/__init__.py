"""When things run, in which order, and what to do when they fail. Each file beside this one holds one DAG."""
