"""The Airflow DAG `train_renderer`: the renderer's weights from the corpus, published if they are the better ones."""

from dags.assets import RENDERER
from dags.training import training_dag

dag = training_dag("train_renderer", "renderer", RENDERER, "A sketch and reference pictures to a face: the renderer")
