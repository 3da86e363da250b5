# The data plane: Ray, torch and the media libraries. One image for the Ray head and its workers.
#   docker build --file docker/data.Dockerfile --tag dubmill-data .                         for machines with an NVIDIA GPU
#   docker build --file docker/data.Dockerfile --tag dubmill-data-cpu --build-arg TORCH=cpu \
#       --build-context wheels=FOLDER .                 for machines without: FOLDER holds a CPU build of the locked torch
FROM scratch AS wheels

FROM python:3.11-slim-bookworm
ARG TORCH=cuda

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN useradd --create-home --uid 50000 dubmill && mkdir -p /opt/dubmill /data && chown dubmill /opt/dubmill /data
USER 50000
WORKDIR /opt/dubmill

COPY --chown=dubmill locks ./locks
COPY --chown=dubmill pyproject.toml README.md ./
RUN --mount=type=bind,from=wheels,target=/wheels \
    case "$TORCH" in \
        cuda) ;; \
        cpu) compgen -G '/wheels/torch-*' >/dev/null || { echo "TORCH=cpu wants --build-context wheels=FOLDER with a CPU build of torch in it" >&2; exit 1; }; \
             export PIP_FIND_LINKS=/wheels ;; \
        *) echo "TORCH is cuda or cpu, not '$TORCH'" >&2; exit 1 ;; \
    esac; \
    PYTHON=python3 locks/install.sh data /opt/dubmill/.venv without-code

COPY --chown=dubmill dubmill.py ./
COPY --chown=dubmill schemas ./schemas
COPY --chown=dubmill models ./models
COPY --chown=dubmill tasks ./tasks
COPY --chown=dubmill ray_jobs ./ray_jobs
RUN .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .

# Workers of one cluster trust each other by token: mount the file and set RAY_AUTH_TOKEN_PATH.
ENV PATH=/opt/dubmill/.venv/bin:$PATH \
    PYTHONPATH=/opt/dubmill \
    RAY_AUTH_MODE=token
CMD ["dubmill", "--help"]
