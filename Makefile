# `make run`   sets up what is missing and starts the cell:  make run ARGS="--duration 60 --report r.json"
# `make test`  sets up what the tests need and runs them:    make test ARGS="-k fusion"
# `make setup` only installs; then .venv/bin/cellwatch is the command. Also: lint, soak, clean.
SHELL := /bin/bash
.DEFAULT_GOAL := run
.PHONY: run test soak lint setup clean
.DELETE_ON_ERROR:
# Nothing of another environment may leak into this one: the mark of its ROS wheels, a sourced ROS 2.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE VIRTUAL_ENV PYTHONHOME
ifdef AMENT_PREFIX_PATH
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH RMW_IMPLEMENTATION
endif

# The first of these that is 3.11 or newer; looked for only when .venv is made.
PYTHON = $(eval PYTHON := $$(shell for p in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do \
  $$$$p -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $$$$p && break; done))$(PYTHON)
# cpu or gpu: which ONNX Runtime and XGBoost. `make clean` before changing it.
ACCELERATOR ?= $(if $(or $(wildcard /dev/nvidia0),$(shell command -v nvidia-smi)),gpu,cpu)

VENV := $(CURDIR)/.venv
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

run: setup
	@$(BIN)/cellwatch run $(ARGS)

test: setup .venv/.test
	@$(BIN)/python -m pytest $(ARGS)

soak: setup .venv/.test
	@$(PIP) install --editable '.[soak]'
	@$(BIN)/python -m pytest -m soak $(ARGS)

lint: setup .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p cellwatch
	$(BIN)/python -m pytest -q tests/test_imports.py

setup: .venv/.messages .venv/.compiled

clean:
	rm -rf .venv build install log dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Each stamp is the newest thing of its step, so a step runs again when what it was made from changes.
.venv/.python:
	@$(if $(PYTHON),,echo "Cellwatch needs Python 3.11 or newer: apt-get install python3"; exit 2)
	@$(prerequisites)
	@echo "Cellwatch: making .venv with $$($(PYTHON) --version)"
	@rm -rf build/msgs
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/.wheels: setup.py setup.cfg .venv/.python
	@echo "Cellwatch: installing packages ($(ACCELERATOR)), once; this takes a minute or two"
	@$(PIP) install --editable '.[$(ACCELERATOR),learn,sim,ros-wheels]'
	@touch $@

.venv/.messages: $(shell find msgs) .venv/.wheels
	@echo "Cellwatch: compiling its messages, once; this takes half a minute"
	@mkdir -p build
	@{ PATH="$(VENV)/bin:$$PATH" AMENT_PREFIX_PATH="$(VENV)" \
	  $(BIN)/cmake -G Ninja -S msgs -B build/msgs -DRCLPY_ONLY=ON -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
	    -DCMAKE_PREFIX_PATH="$(VENV)" -DCMAKE_INSTALL_PREFIX="$(VENV)" -DPython3_EXECUTABLE="$(VENV)/bin/python" \
	  && PATH="$(VENV)/bin:$$PATH" $(BIN)/cmake --build build/msgs --target install; } >build/msgs.log 2>&1 \
	  || { tail -n 30 build/msgs.log; echo "Cellwatch: compiling the messages failed; all of it is in build/msgs.log"; exit 2; }
	@touch $@

.venv/.compiled: $(shell find models/features nodes/drivers/records.py -name '*.py') .venv/.wheels
	@echo "Cellwatch: compiling its packet parser, once; this takes half a minute"
	@$(BIN)/python -m cellwatch.nodes.warm
	@touch $@

.venv/.test: .venv/.wheels
	@echo "Cellwatch: installing what the tests need"
	@$(PIP) install --editable '.[$(ACCELERATOR),test]'
	@touch $@

# A compiler, Python's headers and ensurepip: by apt where we may, else say the one line that does it.
define prerequisites
v=$$($(PYTHON) -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); need=; \
command -v g++ >/dev/null || need="$$need g++"; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || need="$$need $$v-venv"; \
$(PYTHON) -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || need="$$need $$v-dev"; \
[ -z "$$need" ] && exit 0; \
if [ "$$(id -u)" = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as="sudo -n"; else as=no; fi; \
line="apt-get install -y --no-install-recommends$$need"; \
if [ "$$as" != no ] && command -v apt-get >/dev/null; then \
  echo "Cellwatch: $$line"; \
  $$as apt-get update -qq; $$as env DEBIAN_FRONTEND=noninteractive $$line -qq >/dev/null && exit 0; \
fi; \
echo "Cellwatch needs:$$need. Install with:  sudo $$line" >&2; exit 2
endef
