# Two commands: `make demo` runs the main job, `make test` checks everything. Both make their own environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT := out/demo
# Installed before anything that depends on them, so that a later release is never pulled in on the way.
TORCH ?= torch==2.13.0 torchvision==0.28.0
REAL_STUDIES := $(wildcard ../shared/data/studies)

.PHONY: demo test lint clean

demo: $(VENV)/.workstation
	@mkdir -p $(OUT)
	$(BIN)/python -m export.demo $(OUT)/demo.safetensors
	$(BIN)/dtvit-edge export $(OUT)/demo.safetensors -o $(OUT)/demo.dtvit --overwrite
	$(BIN)/dtvit-edge phantom $(OUT)/phantoms --studies 4 --seed 1 --overwrite
	$(BIN)/dtvit-edge score $(OUT)/demo.dtvit $(OUT)/phantoms $(REAL_STUDIES) -o $(OUT)/results --overwrite
	@echo "bundle: $(OUT)/demo.dtvit   phantom studies and their truth: $(OUT)/phantoms   results: $(OUT)/results"

test: lint
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.workstation: pyproject.toml | $(VENV)/.torch
	$(BIN)/pip install --quiet --editable '.[workstation]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.torch
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	@touch $@

clean:
	rm -rf out build dist
