BACKEND ?= torch
PY := .venv/bin/python
# The one that .venv has, if there is one.
PYTHON ?= $(or $(wildcard $(PY)),$(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || echo python3))
PIP := .venv/bin/pip install -q --disable-pip-version-check
# Two processes, one core each: PyTorch's threads would wait for each other for most of the time.
TWO := OMP_NUM_THREADS=1
export TF_CPP_MIN_LOG_LEVEL = 2

.DEFAULT_GOAL := help
.PHONY: help demo known-backend test test-full parity crash-test check bench clean

help:  ## show this help
	@awk -F ':.*## ' '/^[.a-z\/_-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: known-backend .venv  ## pretrain and finetune a small ViT offline, in minutes (BACKEND=torch, tf or ms)
	$(PY) vit_$(BACKEND).py --data digits --variant tiny --batch_size 32 --pretrain_epochs 12 --finetune_epochs 5 \
		--compare_scratch --seed 7 --model_dir runs/demo-$(BACKEND)

known-backend:
	@test -f vit_$(BACKEND).py || { echo "BACKEND must be torch, tf or ms, not $(BACKEND)" >&2; exit 2; }

test: .venv  ## run the tests, two files at a time
	$(TWO) $(PY) -m pytest -n 2

test-full: .venv  ## run the tests that `make test` leaves out, which take minutes each
	$(TWO) $(PY) -m pytest -n 2 -m full

parity: .venv  ## run all of the parity tests; they end with a table
	$(PY) -m pytest tests/parity -m "full or not full"

crash-test: .venv  ## kill training runs with SIGKILL twenty times, and compare how they end
	$(PY) -m tests.checkpoints.crash

check: .venv  ## run the linter
	.venv/bin/ruff check .

bench: .venv  ## measure the drift between the frameworks (benchmarks/)
	$(PY) benchmarks/parity.py

clean:  ## remove what was installed and written by runs
	rm -rf .venv runs rank_0 kernel_meta somas_meta

.venv: .venv/installed  ## install everything into .venv (again only when a requirements file changes)

.venv/installed: $(wildcard requirements*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || \
		{ echo "Python 3.10, 3.11 or 3.12 is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11" >&2; exit 2; }
	@test ! -x $(PY) || test "$$($(PY) --version)" = "$$($(PYTHON) --version)" || \
		{ echo ".venv has $$($(PY) --version), and $(PYTHON) is $$($(PYTHON) --version): rm -rf .venv first" >&2; exit 2; }
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment: apt-get install python3-venv" >&2; exit 2; }
	@echo "Installing into .venv with $$($(PYTHON) --version): 11 GB, a few minutes"
	@echo "  1/3 FastEstimator, PyTorch, TensorFlow ..."
	@$(PIP) -r requirements.txt -r requirements-dev.txt
	@echo "  2/3 OpenCV without a display ..."
	@$(PIP) --no-deps --force-reinstall -r requirements-headless.txt
	@echo "  3/3 MindSpore ..."
	@$(PIP) --no-deps -r requirements-mindspore.txt
	@touch $@
