# One command each, on a fresh clone too: setup lint test soak chaos bench up demo lock
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup lint test soak chaos bench up demo lock

DATA := .venv/bin/python
CONTROL := .venv-airflow/bin/python
# Files of tests side by side, one a core; each test has one thread of its own.
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile
LOCAL_SCRIPTS := $(wildcard docker/local/*.py)

# Your own footage and speech for the demo: make demo CLIPS=folder SPEECH=file
# Handed to the recipe in its environment, as they are: a path may hold quotes and dollar signs.
CLIPS ?=
SPEECH ?=
OUT ?=
override export CLIPS := $(value CLIPS)
override export SPEECH := $(value SPEECH)
override export OUT := $(value OUT)

help:
	@echo "make setup   both environments, from the locks (the other targets do it too)"
	@echo "make demo    clips to a dubbed video, through Airflow and Ray; your own: CLIPS=folder SPEECH=file OUT=folder"
	@echo "make up      Airflow and a Ray head on this machine, until Ctrl-C"
	@echo "make test    every test, in the environment it belongs to"
	@echo "make lint    ruff and mypy"
	@echo "make soak    the long, random and repeated tests"
	@echo "make chaos   the fault table: what becomes of real runs when something is killed under them; under 30 minutes on two cores"
	@echo "make bench   what a frame, a picture, a plan and a second actor cost, and seconds by stage of the demo"
	@echo "make lock    the locks again, from pyproject.toml"

setup:
	@locks/install.sh data .venv
	@locks/install.sh control .venv-airflow

lint: setup
	$(DATA) -m ruff check .
	$(DATA) -m ruff format --check .
	$(DATA) -m mypy
	$(DATA) -m mypy dags
	MYPYPATH=docker/local $(DATA) -m mypy $(LOCAL_SCRIPTS)

# Threads that wait for work sleep: on few cores those that spin take them from Ray's other workers.
test: export OMP_WAIT_POLICY := PASSIVE
test: export OMP_NUM_THREADS := 1
test: setup
	@echo "test: all of tests/ but tests/dags, in the data environment (.venv)"
	$(DATA) -m pytest tests --ignore=tests/dags --ignore=tests/chaos/test_faults.py $(PARALLEL)
	@echo "test: tests/dags, in the control environment (.venv-airflow)"
	$(CONTROL) -m pytest tests/dags $(PARALLEL)
	@echo "test: three faults under real runs, by themselves (.venv, which starts Airflow's components)"
	$(DATA) -m pytest tests/chaos/test_faults.py

soak: setup
	$(DATA) -m pytest tests --ignore=tests/dags -m soak --timeout=0
	$(CONTROL) -m pytest tests/dags -m soak --timeout=0

chaos: setup
	$(DATA) -m tests.chaos

bench: setup
	$(DATA) -m tests.bench.frame_cost
	$(DATA) -m tests.bench.picture_coding
	$(DATA) -m tests.bench.actors
	$(DATA) -m tests.bench.planning
	$(DATA) -m tests.bench.training_steps --preset small
	$(DATA) -m tests.bench.generation --device cpu --preset small
	$(DATA) -m tests.bench.dubbing stages --seconds 10 --references 5
	$(DATA) docker/local/demo.py --out build/bench --json

up: setup
	@exec $(DATA) docker/local/up.py

demo: setup
	@exec $(DATA) docker/local/demo.py $${CLIPS:+"--clips=$$CLIPS"} $${SPEECH:+"--speech=$$SPEECH"} $${OUT:+"--out=$$OUT"}

lock:
	locks/compile.sh
