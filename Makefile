BACKEND ?= torch
BACKENDS ?= torch,tf,ms
ROUNDS ?= 5
PY := .venv/bin/python
# The one that .venv has, if there is one.
PYTHON ?= $(or $(wildcard $(PY)),$(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || echo python3))
# FastEstimator pins dill==0.3.6 and MindSpore, which comes second, wants >=0.3.7: pip's complaints of it are not shown.
PIP := .venv/bin/pip install -q --disable-pip-version-check --no-warn-conflicts
# An older .venv has two OpenCVs in one folder, and taking one out leaves nothing to import.
OPENCV := opencv-python-headless==4.11.0.86
FUZZ_MINUTES ?= 10
# What `.venv` and `demo` install: everything where no BACKEND is named or once all of it is there, else what that one needs.
NAMED := $(if $(filter command environment,$(origin BACKEND)),$(BACKEND))
INSTALLED := $(if $(LOCKED),.venv/installed-locked,$(or $(wildcard .venv/installed),.venv/installed$(addprefix -,$(NAMED))))
# PyPI's PyTorch is built for CUDA, which is gigabytes of it. Where there is no GPU, PyTorch's own index is asked for the
# one without it first; where that does not answer, PyPI's is taken.
CPU_TORCH := $(PY) -c 'import torch' 2>/dev/null || test -e /dev/nvidiactl || $(PIP) --no-deps --retries 0 --timeout 15 \
	--index-url https://download.pytorch.org/whl/cpu $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' packages/fe_compat/pyproject.toml) \
	2>/dev/null || echo "  no CPU build at download.pytorch.org: PyPI's PyTorch, with CUDA"
UV := .venv-lock/bin/uv
# Two processes, one core each: PyTorch's threads would wait for each other for most of the time.
TWO := OMP_NUM_THREADS=1
export TF_CPP_MIN_LOG_LEVEL = 2

.DEFAULT_GOAL := help
.PHONY: help demo known-backend locked-is-all test test-full test-fe-mindspore parity scale-test crash-test fuzz check docs figures \
	bench lock newest clean

help:  ## show this help
	@awk -F ':.*## ' '/^[.a-z\/_-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

demo: known-backend .venv  ## pretrain and finetune a small ViT offline, in minutes (BACKEND=torch, tf or ms)
	$(PY) vit_$(BACKEND).py --data digits --variant tiny --batch_size 32 --pretrain_epochs 12 --finetune_epochs 5 \
		--compare_scratch --seed 7 --model_dir runs/demo-$(BACKEND) --overwrite

known-backend:
	@test -f vit_$(BACKEND).py || { echo "BACKEND must be torch, tf or ms, not $(BACKEND)" >&2; exit 2; }

test: .venv/installed  ## run the tests, two files at a time (BACKENDS=torch: those of PyTorch)
	$(TWO) $(PY) -m pytest -n 2 --backends $(BACKENDS)

test-full: .venv/installed  ## run the tests that `make test` leaves out, which take minutes each
	$(TWO) $(PY) -m pytest -n 2 -m full --backends $(BACKENDS)

test-fe-mindspore: .venv/installed  ## run the tests of packages/fe_mindspore from inside it, as its own project
	cd packages/fe_mindspore && $(TWO) ../../.venv/bin/pytest -n 2

parity: .venv/installed  ## run all of the parity tests; they end with a table
	$(PY) -m pytest tests/parity -m "full or not full" --backends $(BACKENDS)

scale-test: .venv/installed  ## hold several workers to one, in each framework: losses, weights, evaluations; planted defects
	$(TWO) $(PY) -m pytest tests/training/test_w*.py tests/training/test_meeting.py tests/cli/test_launch.py tests/backend/test_scheduler.py \
		-m "full or not full" --backends $(BACKENDS)

crash-test: .venv/installed  ## kill training runs with SIGKILL twenty times, and compare how they end
	$(PY) -m tests.checkpoints.crash

fuzz: .venv/installed  ## feed the commands nearly right inputs for ten minutes (FUZZ_MINUTES=60)
	$(TWO) $(PY) -m tests.fuzz --minutes $(FUZZ_MINUTES)

check: .venv/installed  ## run the linter
	.venv/bin/ruff check .

docs: .venv-docs/installed  ## build the site of docs/ into site/: every link is checked, a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "site/index.html; to search it: python3 -m http.server --directory site"

figures: .venv/installed  ## draw the plots of README and docs anew (it trains the three), and put in the figures that they quote
	$(PY) benchmarks/parity.py
	PARITY_KEPT=benchmarks/levels.json $(MAKE) parity
	$(PY) benchmarks/figures.py

bench: .venv/installed  ## measure speed and memory beside peers, and the drift between the frameworks (one hour to three; ROUNDS=5, BESIDE=an older checkout)
	$(PY) benchmarks/step.py --variant apphub --rounds $(ROUNDS)
	$(PY) benchmarks/step.py --variant small_data --rounds $(ROUNDS)
	$(PY) benchmarks/pipeline.py
	$(PY) benchmarks/startup.py $(if $(BESIDE),--beside "$(BESIDE)")
	$(PY) benchmarks/dropout.py
	$(PY) benchmarks/serve.py
	$(PY) benchmarks/scale.py
	$(PY) benchmarks/saving.py
	$(PY) benchmarks/results.py
	$(PY) benchmarks/parity.py
	$(PY) benchmarks/figures.py

# FastEstimator is in them for itself: on Python 3.12 what it needs is not what it says.
LOCK := $(UV) pip compile --quiet --generate-hashes --no-annotate --no-header --python-platform x86_64-manylinux_2_28 --python-version
lock: $(UV)  ## write requirements/lock-*.txt anew: of each package the newest release that goes with the others, and its hashes
	@for python in 3.10 3.11 3.12; do \
		$(LOCK) $$python $(addprefix --no-emit-package=,vit-three-ways fe-compat fe-mindspore opencv-python fastestimator) \
			requirements.txt requirements-dev.txt packages/fe_mindspore/pyproject.toml > .venv-lock/lock.txt && \
		echo fastestimator==1.7.0 | $(LOCK) $$python --no-deps - >> .venv-lock/lock.txt && \
		{ echo "# Written by make lock, for Linux on x86_64."; cat .venv-lock/lock.txt; } > requirements/lock-$$python.txt || exit; \
	done

newest: $(UV)  ## install the newest releases of all that is pinned into .venv-newest (11 GB), say which, and try them
	@UV=$(UV) PYTHON=$(PYTHON) sh packages/newest.sh

$(UV):
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/pip install -q --disable-pip-version-check uv==0.13.9

clean:  ## remove what was installed and written by runs
	rm -rf .venv .venv-docs .venv-lock .venv-newest site runs rank_0 kernel_meta somas_meta

# An environment of its own: FastEstimator pins releases that the generator has long left behind.
.venv-docs/installed: requirements-docs.txt
	@test -x .venv-docs/bin/pip || $(PYTHON) -m venv .venv-docs || { echo "$(PYTHON) cannot make a virtual environment: apt-get install python3-venv" >&2; exit 2; }
	@echo "Installing into .venv-docs: 170 MB"
	@.venv-docs/bin/pip install -q --disable-pip-version-check -r requirements-docs.txt
	@touch $@

.venv: known-backend locked-is-all $(INSTALLED)  ## install everything (BACKEND=tf: what that needs; LOCKED=1: by requirements/lock-*.txt)

locked-is-all:
	@test -z "$(LOCKED)" || test -z "$(NAMED)" || { echo "LOCKED=1 installs everything: leave BACKEND out" >&2; exit 2; }
	@test -z "$(LOCKED)" || test -e .venv/installed-locked || test -z "$(wildcard .venv/installed*)" || \
		{ echo ".venv was installed without LOCKED=1: rm -rf .venv first" >&2; exit 2; }

define NEW_VENV
@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || \
	{ echo "Python 3.10, 3.11 or 3.12 is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11" >&2; exit 2; }
@test ! -x $(PY) || test "$$($(PY) --version)" = "$$($(PYTHON) --version)" || \
	{ echo ".venv has $$($(PY) --version), and $(PYTHON) is $$($(PYTHON) --version): rm -rf .venv first" >&2; exit 2; }
@test -x .venv/bin/pip || $(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment: apt-get install python3-venv" >&2; exit 2; }
@echo "Installing into .venv with $$($(PYTHON) --version): $(SIZE), a few minutes"
endef
PROJECTS := pyproject.toml $(wildcard packages/*/pyproject.toml)

# A copy of fe_compat comes with each of the first two steps; a link to the checkout's own replaces it in the end.
.venv/installed: SIZE := 7.6 GB (11 GB with CUDA)
.venv/installed: requirements.txt requirements-dev.txt $(PROJECTS)
	$(NEW_VENV)
	@echo "  1/3 FastEstimator, PyTorch, TensorFlow ..."
	@$(CPU_TORCH)
	@$(PIP) -r requirements.txt -r requirements-dev.txt
	@$(PY) -c 'from cv2 import setNumThreads' 2>/dev/null || $(PIP) --no-deps --force-reinstall $(OPENCV)
	@$(PY) -c 'import sys; sys.exit(sys.version_info >= (3, 12))' || $(PIP) --no-deps fastestimator==1.7.0
	@echo "  2/3 MindSpore ..."
	@$(PIP) -e packages/fe_mindspore
	@echo "  3/3 this checkout ..."
	@$(PIP) --no-deps -e packages/fe_compat
	@rm -f .venv/installed-locked
	@touch $@

LOCKED_BY = requirements/lock-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt
# Four of them come as sources. pip would build those with the newest setuptools, so the lock's is there first.
LOCKED_BUILDERS = sed -nE '/^(setuptools|wheel|packaging)==/,/[^\]$$/p' $(LOCKED_BY)
.venv/installed-locked: SIZE := 11 GB
.venv/installed-locked: $(if $(LOCKED),$(wildcard $(LOCKED_BY))) $(PROJECTS)
	$(NEW_VENV)
	@echo "  1/2 what $(LOCKED_BY) says ..."
	@$(LOCKED_BUILDERS) | $(PIP) --no-deps --require-hashes -r /dev/stdin
	@$(PIP) --no-deps --no-build-isolation --require-hashes -r $(LOCKED_BY)
	@echo "  2/2 this checkout ..."
	@$(PIP) --no-deps --no-build-isolation packages/opencv_python -e packages/fe_compat -e packages/fe_mindspore -e .
	@touch $@ .venv/installed

# One framework's: FastEstimator without those of its needs that a training does not import.
.venv/installed-torch: SIZE := 1.7 GB (5.5 GB with CUDA)
.venv/installed-tf: SIZE := 3.7 GB (7.5 GB with CUDA)
.venv/installed-ms: SIZE := 4.2 GB (8 GB with CUDA)
.venv/installed-%: $(PROJECTS)
	$(NEW_VENV)
	@echo "  1/2 $(if $(filter tf,$*),PyTorch and TensorFlow,$(if $(filter ms,$*),PyTorch and MindSpore,PyTorch)) ..."
	@$(CPU_TORCH)
	@sed -n '/^dependencies/,/^]/s/^ *"\([^"@]*\)",$$/\1/p' pyproject.toml | \
		$(PIP) -r /dev/stdin "packages/fe_compat[$(if $(filter tf,$*),tensorflow,torch)]" $(if $(filter ms,$*),-e packages/fe_mindspore)
	@echo "  2/2 FastEstimator, this checkout ..."
	@$(PIP) --no-deps fastestimator==1.7.0 -e packages/fe_compat -e .
	@touch $@
