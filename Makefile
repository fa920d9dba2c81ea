# `make` sets everything up and runs the main job; `make help` lists the rest. RUN=runs/NAME picks one run.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/baseline runs/no-decay
DEVSORT := $(BIN)/devsort
CORES := $(shell nproc 2> /dev/null || getconf _NPROCESSORS_ONLN)
ROOT := $(if $(filter 0,$(shell id -u)),,sudo -n)
JOBS := $(shell n=$(words $(RUN)); echo $$((n < $(CORES) ? n : $(CORES))))

STEPS := train llc heads stages chart

.PHONY: all help setup $(STEPS) compare explore study paper validate bench browser test soak lint lint-page docs clean
.DEFAULT_GOAL := all

all: setup  ## the main job: both runs through the whole pipeline, compared
	@start=$$SECONDS; \
	for step in train llc heads stages chart compare explore; do \
	  begun=$$SECONDS; $(MAKE) --no-print-directory $$step || exit; \
	  times="$$times$$(printf '  %-8s %4d s' $$step $$((SECONDS - begun)))\n"; \
	done; \
	printf "\nWhere the time went:\n$$times  %-8s %4d s\n" total $$((SECONDS - start)); \
	printf '%s\n' "" "Made: $(RUN:%=%/figures) comparison explorer.html" \
	  "Next: open explorer.html in a browser; for a network of your own read docs/your-own-network.md;" \
	  "      source .venv/bin/activate, then devsort --help"

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(BIN)/.done  ## make .venv and install devsort with the tested versions

$(BIN)/.done: pyproject.toml constraints.txt devsort/sorting/kernels/compiled.c
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "devsort needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@$(BIN)/python -c 'from devsort.sorting.kernels.compiled import load; raise SystemExit(not load())' || \
	echo "the kernels are not compiled: all works, but training and sampling are slower; install gcc, then touch pyproject.toml"
	touch $@

$(BIN)/.test: $(BIN)/.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,docs]'
	touch $@

train: setup  ## train and save dense checkpoints
llc: setup  ## estimate the LLC trajectories
heads: setup  ## analyse what the heads do
stages: setup  ## find the stages
chart: setup  ## draw the figures
$(STEPS):
	@$(MAKE) --no-print-directory -j$(JOBS) JOBS=$(JOBS) $(RUN:%=%.$@)
llc: JOBS = 1  # it uses all cores by itself, and the runs take unequal times

# One step of each run, as many runs at once as there are cores; each progress bar has its own line.
define step_of_each_run
$(RUN:%=%.$(1)):
	@if [ -t 2 ]; then export TQDM_POSITION=$$$$(($$$$(printf '%s\n' $(RUN) | grep -nxF $$(basename $$@) | cut -d: -f1) - 1)); fi; \
	OMP_NUM_THREADS=$$$$(($(CORES) / $(JOBS))) exec $(DEVSORT) $(1) $$(basename $$@)
endef
$(foreach step,$(STEPS),$(eval $(call step_of_each_run,$(step))))

compare: setup  ## compare the runs; a single one is compared with runs/no-decay
	@$(DEVSORT) compare $(RUN) $(if $(filter 1,$(words $(RUN))),$(firstword $(filter-out $(RUN),runs/no-decay runs/baseline)))

explore: setup  ## make explorer.html: the runs over training, with their networks live in one page
	@$(DEVSORT) explore $(RUN)

study: setup  ## a small sweep and its table of claims, in 17 minutes on two cores
	$(DEVSORT) sweep studies/small.yaml
	$(BIN)/python analysis/paper_table.py runs/small --out runs/small

paper: setup  ## the challenge's run, the 112 cells behind the table of claims (about three hours on two cores, by the sum of its cells), and the table
	$(MAKE) --no-print-directory train llc heads stages chart RUN=runs/challenge
	$(DEVSORT) sweep studies/paper.yaml
	$(BIN)/python analysis/paper_table.py runs/paper

validate: setup  ## check the estimator against known answers
	$(DEVSORT) validate

bench: $(BIN)/.test  ## compare speed with the peers
	$(DEVSORT) bench

# The browser for the tests of the explorer. `make test BROWSER=no` leaves these out.
browser:
	@command -v chromium > /dev/null || [ "$(BROWSER)" = no ] || \
	{ $(ROOT) apt-get update -qq && $(ROOT) apt-get install -y -qq --no-install-recommends chromium > /dev/null; } || \
	echo "no Chromium: the explorer's browser tests are skipped; make test BROWSER=no does not look for it"

test: $(BIN)/.test browser  ## run the tests; BROWSER=no leaves out those in Chromium
	$(BIN)/python -m pytest -n auto --maxprocesses 4

soak: $(BIN)/.test  ## try the commands with hundreds of kills, full disks, damaged files and bad inputs; an hour
	PYTHONPATH=tests $(BIN)/python -m soak

lint: $(BIN)/.test docs  ## check style, format, types and the direction of imports; build the site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(BIN)/.test  ## build the documentation into site/, with warnings as errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The files share one scope, so they are checked joined, as in the page.
lint-page:  ## check the script of the explorer, with Node and ESLint from npx
	sed -s '$$G' devsort/explorer/web/*.js devsort/sorting/explorer/web/*.js | sed '1i (() => {' | sed '$$a })();' | \
	npx --yes eslint@10 --config devsort/explorer/eslint.config.mjs --stdin

clean:  ## remove what the runs, compare and bench computed (config.yaml stays)
	@for run in $(RUN); do find $$run -mindepth 1 -maxdepth 1 ! -name config.yaml -exec rm -rf {} +; done
	rm -rf comparison benchmark explorer.html site
