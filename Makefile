# The book and the tests. Needs Python >= 3.11, make and a package index.

VENV ?= .venv
# The first Python that is new enough. PYTHON=/path/to/python3 chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)

RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
CHAPTERS := $(sort $(wildcard chapters/*.ipynb))
EXECUTED := $(addprefix _build/,$(CHAPTERS))
PAPER := $(addprefix _build/paper/,$(CHAPTERS))
SOURCES := $(shell find mixem results -name '*.py' -o -name '*.json' 2>/dev/null) \
	$(wildcard tools/*.py) _config.yml
# What has passed in a make test that has not come to its end.
PASSED := _build/passed
PASSED_CHAPTERS := $(addprefix $(PASSED)/,$(CHAPTERS))
TESTS := $(shell find tests benchmarks .github -type f -not -name '*.py[co]' 2>/dev/null) \
	$(wildcard *.md *.toml *.yml *.cff) Makefile

# No cell is stopped for taking long. What uses no processor time for so many seconds is: it waits
# for something that will not come. make reproduce has no limit, for there it may be a download.
STILL ?= 600
# The last words after a failure.
GOES_ON = || { echo "What is done is kept: the same command goes on where it stopped." >&2; exit 1; }

# glibc gives large blocks back to the system at every step of a training unless told otherwise;
# keeping them makes small networks up to twice as fast. Other systems ignore these.
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296
export MALLOC_TOP_PAD_ ?= 268435456
# Results are the same from run to run for one number of threads only. The committed chapters
# were run with two.
export OMP_NUM_THREADS ?= 2
# Threads wait busily for a moment only: by default they hold their core for milliseconds, and on
# a machine that does other work every step then takes many times as long.
export GOMP_SPINCOUNT ?= 30000
# Trained runs are shared by all chapters.
export MIXEM_RUNS ?= $(CURDIR)/runs
# Notebooks run with the kernel of this environment, whatever the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH

.PHONY: help book chapters test test-unit test-chapters lint reproduce bench clean
.NOTPARALLEL: # later chapters use the runs of earlier ones
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: $(INSTALLED) $(EXECUTED) ## run the chapters on two CPU cores and build the book in _build/html
	@$(RUN) tools/build_book.py --chapters _build/chapters --out . $(GOES_ON)

_build/chapters/%.ipynb: chapters/%.ipynb $(SOURCES) | $(INSTALLED)
	@$(RUN) tools/run_chapter.py $< $@ --still $(STILL) $(GOES_ON)

chapters: $(EXECUTED) ## run the chapters and replace the committed ones by the result
	@for name in $(notdir $(CHAPTERS)); do \
		cmp -s _build/chapters/$$name chapters/$$name || cp _build/chapters/$$name chapters/; done
	@touch $(EXECUTED)

test: $(PASSED)/unit test-chapters ## run the unit tests, then every chapter against its outputs

$(PASSED)/unit: $(SOURCES) $(CHAPTERS) $(TESTS) $(INSTALLED)
	@$(RUN) -m pytest $(GOES_ON)
	@mkdir -p $(@D)
	@touch $@

test-unit: $(INSTALLED) ## run the unit tests, the examples of the docstrings and the browser tests
	@$(RUN) -m pytest

# When all have passed, the next test begins anew.
test-chapters: $(INSTALLED) ## run every chapter and compare its text outputs
	@$(MAKE) --no-print-directory --keep-going $(PASSED_CHAPTERS) $(GOES_ON)
	@rm -rf $(PASSED)

$(PASSED)/%.ipynb: %.ipynb $(SOURCES) tests/book/sanitize.cfg $(INSTALLED)
	@$(RUN) tools/check_chapter.py $< --still $(STILL)
	@mkdir -p $(@D)
	@touch $@

lint: $(INSTALLED) ## check style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

# What the tables lack is trained first, in order of value: REPRODUCE="--minutes 600" stops after ten
# hours, REPRODUCE="cifar10/imc-swav cifar10/simclr" names rows. The chapters load what is trained,
# and train for minutes only. A chapter that cannot be run so is the committed one in this book.
reproduce: $(INSTALLED) ## train what the papers' tables lack, best on a GPU, and build that book
	@env -u OMP_NUM_THREADS $(RUN) -m mixem reproduce --results results --download $(REPRODUCE) \
		|| echo "The book is built with what there is; the same command goes on." >&2
	@$(MAKE) --no-print-directory --keep-going $(PAPER) || true
	@$(RUN) tools/build_book.py --partly --chapters _build/paper/chapters --out _build/paper $(GOES_ON)

_build/paper/chapters/%.ipynb: chapters/%.ipynb $(SOURCES) | $(INSTALLED)
	@env -u OMP_NUM_THREADS $(RUN) tools/run_chapter.py $< $@ --profile paper

# BENCH="--device cuda", or "--only losses" to print a part of it.
bench: $(INSTALLED) ## install other libraries, measure the speed beside them: benchmarks/README.md
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@KINETO_LOG_LEVEL=9 $(RUN) benchmarks/readme.py $(BENCH)

clean: ## remove what was built; trained runs and the environment stay
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache

# Touched only when the install went through.
$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed and was not found$(if $(PYTHON), in $(PYTHON)):" \
			"install one, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing into $(VENV): about two minutes the first time."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
