# Everything runs in .venv, made here with the standard library's venv and the hashed lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: docs docs-reference docs-screenshots docs-check
.PHONY: demo ui stop test test-all lint bench bench-imaging bench-rewrites bench-transfer bench-cost bench-report lock clean

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v < (3, 14); sys.exit(0 if ok else "photo_pipeline needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: run `make PYTHON=python3.12 ...`" % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

# Tests and linters on top, so that `make demo` does not wait for them.
$(DEV_STAMP): $(STAMP) requirements-dev.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $(DEV_STAMP)

demo: $(STAMP)  ## The whole migration on sample photos, an embedded S3 and SQLite.
	$(BIN)/photo-pipeline demo $(ARGS)

ui: $(STAMP)  ## Dagster on http://127.0.0.1:3000, with the embedded S3 and CDN beside it.
	$(BIN)/photo-pipeline demo --ui $(ARGS)

stop: $(STAMP)  ## Stops the embedded S3 and CDN that the demo left running.
	$(BIN)/photo-pipeline demo --stop

test: $(DEV_STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" $(ARGS)

test-all: $(DEV_STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV_STAMP)  ## ruff (lint and format), mypy (strict on the core), the import contract.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

SITE := .photo_pipeline/site

docs: docs-reference  ## The documentation's site in .photo_pipeline/site; open index.html.
	$(BIN)/zensical build --config-file mkdocs.yml --clean --strict

docs-reference: $(DEV_STAMP)  ## Writes docs/reference/ from the configuration's models and the program.
	$(BIN)/python -m docs_tools.reference

docs-screenshots: $(DEV_STAMP)  ## Takes the tutorial's pictures anew, after `make demo ARGS=--fresh`; needs Chromium.
	$(BIN)/python -m docs_tools.screenshots

docs-check: $(DEV_STAMP)  ## Builds the site strictly; every link and anchor leads somewhere, nothing comes from elsewhere.
	rm -rf $(SITE)
	$(BIN)/zensical build --config-file mkdocs.yml --clean --strict
	$(BIN)/python -m docs_tools.links $(SITE)

bench: $(DEV_STAMP)  ## Where the demo path spends its time; writes benchmarks/results/.
	$(BIN)/python -m benchmarks.pipeline $(ARGS)

bench-imaging: $(DEV_STAMP)  ## The image engine beside sharp and pyvips (ImageMagick where it is there); 75 minutes on two cores.
	$(BIN)/python -m benchmarks.imaging $(ARGS)

bench-rewrites: $(DEV_STAMP)  ## Rewritten rows per second beside a bare executemany UPDATE; ARGS="--rows 1000000" for memory.
	$(BIN)/python -m benchmarks.rewrites $(ARGS)

bench-transfer: $(DEV_STAMP)  ## The whole upload path beside rclone copy and rclone check, on rclone's server and Ceph; 10 minutes.
	$(BIN)/python -m benchmarks.transfer $(ARGS)

bench-cost: $(DEV_STAMP)  ## What counting and limiting requests costs an upload; a minute.
	$(BIN)/python -m benchmarks.cost $(ARGS)

LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-strip-extras --no-emit-index-url --no-header --no-annotate --all-extras --group build

bench-report: $(DEV_STAMP)  ## Writing and opening the report of 100,000 photos, in Chromium; 2 minutes.
	$(BIN)/python -m benchmarks.report $(ARGS)

lock:  ## Needs uv. The locks are hashed, universal (3.11 to 3.13) and name no index host.
	$(LOCK) -o requirements.lock
	$(LOCK) --group test --group lint --group docs -c requirements.lock -o requirements-dev.lock

clean:  ## Removes the environment and everything the demo made.
	rm -rf $(VENV) .dagster .photo_pipeline
