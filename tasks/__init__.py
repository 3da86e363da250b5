"""What is done to one thing: one clip, one batch, one step, one dub. Nothing here knows of Ray or Airflow."""
