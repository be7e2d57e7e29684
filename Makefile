# Each target sets up .venv from the lock by itself; the second time it is there already.
#
#   make report [RUN=published] [TEXT=my.txt] [MIRROR=folder] [CORES=all] [SET="models.gpt.width=32 seeds=[0,1]"]
#   make image       the environment as lmstages.sif, for snakemake --sdm apptainer; PUSH=registry/name pushes it, too
#   make test        the tests, under ten minutes on two cores
#   make test-slow   the others, as CI does
#   make lint        ruff, mypy, snakefmt, snakemake --lint
#   make readme      the tables and pictures of README.md and docs/, from finished runs below results/ and from the code
#   make dist        the source distribution and the wheel, which holds the workflow: dist/
#   make docs        the documentation as pages that open from disk: site/index.html

PYTHON ?= python3
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.made-from-lock
# As they were typed, whatever characters they hold: make expands no dollar sign in them, and the shell, which gets them
# as variables, no quote. A text gets ./ in front, since Snakemake's own reading of "\# notes.txt" ends in an error.
override RUN := $(value RUN)
override TEXT := $(value TEXT)
override MIRROR := $(value MIRROR)
override SET := $(value SET)
export RUN TEXT MIRROR SET
CHOSEN := $${RUN:+"run=$$RUN"} $${TEXT:+"text=$$TEXT"} $${MIRROR:+"mirror=$$MIRROR"} $${SET:+"set=$$SET"}
CONFIG := $(if $(strip $(RUN)$(TEXT)$(MIRROR)$(SET)),--config $(CHOSEN))
RELATIVE := case "$$TEXT" in ""|/*|"~"*) ;; *) TEXT="./$$TEXT" ;; esac
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: report test test-slow lint format readme docs dist image clean

report: $(READY)
	@$(RELATIVE); set -x; snakemake --cores $(CORES) $(CONFIG)

test: $(READY)
	OMP_NUM_THREADS=1 python -m pytest -m "not slow" --numprocesses auto --dist loadfile \
		--no-loadscope-reorder

test-slow: $(READY)
	python -m pytest -m slow

lint: $(READY)
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

format: $(READY)
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

readme: $(READY)
	python docs/readme.py
	python docs/columns.py
	python docs/reference.py

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 mkdocs build

dist: $(READY)
	rm -rf dist build
	python -m build --no-isolation

image: Dockerfile requirements.lock
	docker build --tag lmstages .
	$(if $(PUSH),docker tag lmstages $(PUSH) && docker push $(PUSH))
	apptainer build --force lmstages.sif docker-daemon:lmstages:latest

# The environment is built beside and then marked, so that an interrupted set-up is taken up again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("lmstages needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q lmstages  # as pip does for a wheel: a job may not be allowed to write it
	@touch $@

clean:
	rm -rf results/default .snakemake logs
