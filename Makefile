# One command list. Everything that is needed comes by itself; beforehand: git, make and a Python 3.11 to 3.14 with venv.

# The first that runs: a name on PATH may be a version manager's stub for a Python that is switched off.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && \
	{ command -v $$python; break; }; done)
ifeq ($(PYTHON),)
$(error datafab needs Python 3.11, 3.12, 3.13 or 3.14: install one (apt install python3 python3-venv), or name it: make demo PYTHON=/path/to/python3)
endif
UV := $(shell command -v uv || echo .uv/bin/uv)
VENV ?= .venv
RUN := $(VENV)/bin/
export UV_PYTHON_DOWNLOADS := never
export UV_COMPILE_BYTECODE := 1
export UV_PROJECT_ENVIRONMENT := $(VENV)
# Most tests wait for a server or a lease: four go side by side on two cores. ARGS="-n 0 tests/..." runs some by themselves.
SIDE_BY_SIDE := --numprocesses 4 --dist worksteal --durations 25 --durations-min 5
# A virtual environment that somebody has activated is not ours.
unexport VIRTUAL_ENV
# The tests start hundreds of processes: what they import is compiled once.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo up test pythons check docs bench soak clean

help: ## Show what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(VENV)/.ready ## Bring everything that the other commands need (they do it themselves)

demo: $(VENV)/.ready ## Collect, analyse, index and find sample files on a real cluster
	@$(RUN)datafab demo $(ARGS)

up: $(VENV)/.ready ## Run a cluster on this host until Ctrl-C
	@$(RUN)datafab up

test: $(VENV)/.ready check ## Check the code and run all tests on real servers
	@tests/servers/install
	$(RUN)coverage erase
	$(RUN)coverage run -m pytest $(SIDE_BY_SIDE) $(ARGS)
	@$(RUN)coverage combine --quiet
	$(RUN)coverage report $(if $(ARGS),--fail-under 0) # some of the tests alone cover less

pythons: .venv/.ready ## Run the unit tests and the demo on every other supported Python of this machine
	@tests/servers/install
	@tests/servers/pythons "$(PYTHON)"

check: $(VENV)/.ready ## Lint, types, layers
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports --no-cache # a cache has hidden a broken layer

docs: $(VENV)/.ready ## Write the pages made of the code, and the site of docs/ to build/site
	@$(RUN)python -m tests.docs
	@NO_MKDOCS_2_WARNING=1 $(UV) run --quiet --isolated --locked --only-group docs --python $(PYTHON) mkdocs build --strict --quiet

bench: $(VENV)/.ready ## Measure speeds as ratios and write docs/benchmarks.md
	@tests/servers/install
	$(RUN)python -m tests.benchmarks

soak: $(VENV)/.ready ## 20,000 jobs under every fault, 200,000 steps of the ledger, a thousand archives, 100,000 endpoints, 2,000 columns
	@tests/servers/install
	DATAFAB_CHAOS=$${DATAFAB_CHAOS:-600} DATAFAB_CHAOS_JOBS=$${DATAFAB_CHAOS_JOBS:-20000} $(RUN)pytest tests/workers/test_chaos.py -s --timeout 7200
	DATAFAB_MODEL_STEPS=$${DATAFAB_MODEL_STEPS:-200000} $(RUN)pytest tests/unit/core/test_ledger_model.py --timeout 7200
	DATAFAB_ARCHIVES=1000 $(RUN)pytest tests/workers/test_archive.py -k wait_hold
	DATAFAB_FUZZ=2000 $(RUN)pytest tests/unit/analysis/test_detective_equality.py --timeout 1800
	DATAFAB_ENDPOINTS=$${DATAFAB_ENDPOINTS:-100000} $(RUN)pytest tests/workers/test_collect_scale.py -m "soak or not soak" -s --timeout 3600

clean: ## Remove what the commands made
	rm -rf .venv .venv-* .uv .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

.uv/bin/uv:
	@$(PYTHON) -m venv .uv || { echo "Python's venv is missing: apt install python3-venv"; exit 1; }
	@.uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.8

$(VENV)/.ready: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	@echo "bringing the libraries (a minute the first time)"
	@$(UV) sync --quiet --locked --python $(PYTHON)
	@touch $@
