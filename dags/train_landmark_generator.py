"""The Airflow DAG `train_landmark_generator`: the landmark generator's weights from the corpus, published if they are the better ones."""

from dags.assets import LANDMARK_GENERATOR
from dags.training import training_dag

dag = training_dag("train_landmark_generator", "landmark-generator", LANDMARK_GENERATOR, "Speech and head pose to mouth and jaw: the landmark generator")
