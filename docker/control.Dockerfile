# The control plane: Airflow and the DAGs. One image for api-server, scheduler, dag-processor and triggerer.
#   docker build --file docker/control.Dockerfile --tag dubmill-control .
FROM python:3.11-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN useradd --create-home --uid 50000 dubmill && mkdir -p /opt/dubmill /opt/airflow/logs /opt/airflow/private && chown -R dubmill /opt/dubmill /opt/airflow
USER 50000
WORKDIR /opt/dubmill

COPY --chown=dubmill locks ./locks
COPY --chown=dubmill pyproject.toml README.md ./
RUN PYTHON=python3 locks/install.sh control /opt/dubmill/.venv-airflow without-code

COPY --chown=dubmill schemas ./schemas
COPY --chown=dubmill dags ./dags
COPY --chown=dubmill docker/fill_bucket.py ./

ENV PATH=/opt/dubmill/.venv-airflow/bin:$PATH \
    PYTHONPATH=/opt/dubmill \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/dubmill/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False
CMD ["airflow", "version"]
