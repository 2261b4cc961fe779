# Every target needs Python 3.11 or newer, make and git, and installs the rest into .venv.
PYTHON ?= python3
BIN = .venv/bin
UV = $(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt
# Python keeps what it has compiled, whatever the shell says: parsing torch anew costs each process some seconds.
export PYTHONDONTWRITEBYTECODE =

.PHONY: setup report test lint lab clean lock
.DEFAULT_GOAL := report

setup: .venv/.base
	@echo "mdw is installed. Call it as $(BIN)/mdw, or as mdw after: . $(BIN)/activate"

report: .venv/.base
	$(BIN)/mdw reproduce --jobs 2

test: .venv/.test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: .venv/.test
	$(BIN)/ruff check mdw tests tools benchmarks
	$(BIN)/ruff format --check mdw tests tools benchmarks
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

# Notebooks are saved without what running them leaves, so that git does not call them modified; `mdw notebooks` copies them.
lab: .venv/.lab
	$(BIN)/jupyter lab notebooks --FileContentsManager.pre_save_hook=mdw.report.site.notebooks.without_outputs

clean:
	rm -rf .venv reports .pytest_cache .ruff_cache .mypy_cache build dist

# Pins everything in constraints.txt anew; without headers, notes and index lines, so that it says versions and nothing else.
lock: .venv/.uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --all-extras --no-header --no-annotate \
	    --no-emit-index-url pyproject.toml --output-file constraints.txt

.venv/.base: .venv/.uv pyproject.toml constraints.txt
	$(UV) --editable '.[report]'
	@touch $@

.venv/.test: .venv/.base
	$(UV) --editable '.[test]'
	@touch $@

.venv/.lab: .venv/.base
	$(UV) --editable '.[lab]'
	@touch $@

.venv/.uv:
	@command -v $(PYTHON) >/dev/null || { echo "mdw needs Python 3.11 or newer and found no $(PYTHON); install it or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mdw needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); name a newer one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) lacks its venv module; install it (Debian and Ubuntu: the package python3-venv) and run make again"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
	@touch $@
