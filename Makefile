# Every target installs what it needs into .venv first; a second `make` installs nothing.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
CHECKED := .venv/checked
MEASURED := .venv/measured
PAGES := .venv/pages

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: run test lint check smoke bench soak figures install clean

run: $(READY)  ## train the diverging loss under three modes and draw it
	$(BIN)/gradlab run
	$(BIN)/gradlab plot

install: $(READY)  ## make .venv with gradlab in it

test: $(READY)  ## the quick tests
	$(PYTEST) -m "not slow"

lint: $(READY)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint $(CHECKED) $(PAGES)/ready  ## what CI runs: format, lint, types, all tests, coverage
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

smoke: $(READY)  ## a run of seconds whose outcome is checked
	$(BIN)/gradlab run smoke --fresh

bench: $(MEASURED)  ## speed, as ratios: the page of explore, the training step, start-up, the audit, compare, ensembles, the whole job; an hour
	@missed=0; for each in explore step startup audit compare ensembles whole_job; do \
		$(BIN)/python -m tests.benchmarks.$$each || missed=1; \
	done; exit $$missed

soak: $(CHECKED)  ## kill runs at random for ten minutes: same rows? Then impose three modes on all audited scripts
	$(BIN)/python -m tests.faults.soak
	$(BIN)/python -m tests.comparison.test_imposed_scripts
	$(BIN)/python -m tests.comparison.test_unseen

figures: $(CHECKED)  ## train the shipped experiments and redraw experiments/figures/
	for name in diverging_loss straight_line digits own_mode adam_linear set_to_none unequal_batches truncated_bptt \
		halving halving_matched_lr optimizers; do \
		$(BIN)/gradlab run $$name --quiet && \
		$(BIN)/gradlab plot runs/$$name -o experiments/figures/$$name.png || exit 1; \
	done
	$(BIN)/gradlab run straight_line_mse --quiet
	$(BIN)/gradlab plot runs/straight_line_mse --theory -o experiments/figures/straight_line_mse.png
	$(BIN)/gradlab run gradient_cosine --quiet
	$(BIN)/gradlab plot runs/gradient_cosine --y cosine -o experiments/figures/gradient_cosine.png
	$(BIN)/gradlab run gradient_tape --quiet && $(BIN)/gradlab run gradient_tape --engine loop --quiet
	$(BIN)/gradlab plot runs/gradient_tape/* -o experiments/figures/gradient_tape.png
	$(BIN)/gradlab run vanilla_descent --quiet
	$(BIN)/gradlab run vanilla_descent --optimizer sgd --lr 0.0005 --quiet
	$(BIN)/gradlab plot runs/vanilla_descent/* --title "Gradient descent without torch.optim" \
		-o experiments/figures/vanilla_descent.png
	$(BIN)/gradlab run fine_tuning --quiet
	$(BIN)/gradlab run fine_tuning_batch_32 --quiet
	$(BIN)/gradlab plot runs/fine_tuning_batch_32 runs/fine_tuning --x update \
		--title "Fine-tuning loop: 4 × 8 is 32" -o experiments/figures/fine_tuning.png
	$(BIN)/gradlab compare --quiet --plot experiments/figures/train_digits.png experiments/train_digits.py
	for name in phase_full_batch phase_mini_batches phase_digits; do \
		$(BIN)/gradlab sweep $$name --quiet || exit 1; \
	done
	$(BIN)/gradlab plot runs/phase_full_batch runs/phase_mini_batches \
		--title "Stable learning rates for every keep" -o experiments/figures/phases.png
	$(BIN)/gradlab plot runs/phase_digits -o experiments/figures/phase_digits.png
	$(BIN)/jupyter-execute --inplace --NotebookClient.record_timing=False experiments/zero_grad.ipynb

clean:  ## all that can be made again, except the runs
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gradlab needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,data]'
	@touch $@

# What only slow tests need: Dask, TensorFlow, notebooks and the audit's frameworks, two gigabytes.
# Not compiled, which would take a minute: Python compiles what is imported.
$(CHECKED): $(READY)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dask]'
	@all=yes; for extra in tensorflow frameworks notebooks; do \
		$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[$$extra]" || { all=no; \
		echo "The extra $$extra cannot be installed for this Python or platform: its tests are skipped."; }; \
	done; test $$all = no || touch $@

# TypeScript and axe-core check the pages. Without npm, or a registry, those tests are skipped.
$(PAGES)/ready: tests/pages/package.json
	@mkdir -p $(PAGES) && cp $< $(PAGES)
	@command -v npm >/dev/null && npm install --prefix $(PAGES) --no-package-lock --no-audit --no-fund --ignore-scripts \
		--fetch-retries=1 --fetch-timeout=20000 --silent && touch $@ || \
		echo "npm cannot install TypeScript and axe-core: the tests of pages that need them are skipped."

# JAX and joblib are what ensembles are measured against; nothing else needs them.
$(MEASURED): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@
