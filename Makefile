# `make demo` and `make test` are each enough on a machine with python3 and pip: they make .venv and install into it.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data

.PHONY: demo test faults check format valles bench dist lock audit clean

# constraints.txt pins the versions that were tested together; pyproject.toml has the tested lower bounds.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/landslip demo demo

# Two files at a time: a file's tests share what they made, and each process takes about 2 GiB.
test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What `make test` tries in reduced form, in full: thousands of cases, hours of one core; `make -j3 -k faults` of three.
faults: $(patsubst tests/faults/test_%.py,faults-%,$(wildcard tests/faults/test_*.py))
faults-%: .venv/installed
	LANDSLIP_FAULTS=full $(BIN)/python -m pytest tests/faults/test_$*.py

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select PLR0917 landslip
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/figures.py --check
	$(BIN)/python .ci/targets.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The real site with optical bands, terrain and masks: prepare, train, map and score it again (data not in the repository).
valles: .venv/installed
	test -f valles/prepared/manifest.json || $(BIN)/landslip prepare sites/valles_marineris.toml valles/prepared --data $(DATA)/valles_marineris
	test -f valles/model/model.json || $(BIN)/landslip train runs/valles_marineris.toml valles/prepared valles/model --half
	$(BIN)/landslip map valles/model valles/prepared/stack.tif valles/map/probability.tif --overwrite
	$(BIN)/landslip inventory valles/map/probability.tif valles/inventory/landslides.gpkg --overwrite
	$(BIN)/landslip evaluate valles/map/probability.tif valles/prepared/label.tif --split valles/model/split.tif --part test --json valles/scores/test.json --overwrite

bench: .venv/installed
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/mapping.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training.py --batch 8 --side 128
	$(BIN)/python benchmarks/growth.py --megapixels 1 10 60

# The files of a release in dist/, looked at as the package index looks at them.
dist: .venv/installed
	$(BIN)/python -m pip install --quiet "build>=1.2" "twine>=6"
	rm -rf dist build
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*

# What CI installs, with hashes, after constraints.txt has changed; pip-audit asks a package index for known weaknesses.
lock: .venv/installed
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report .venv/report.json -c constraints.txt -e ".[dev]"
	$(BIN)/python .ci/lock.py < .venv/report.json > .venv/locked.txt
	mv .venv/locked.txt .ci/locked.txt

audit: .venv/installed
	$(BIN)/python -m pip install --quiet pip-audit
	sed 's/ --hash.*//' .ci/locked.txt > .venv/audited.txt
	$(BIN)/python -m pip_audit --requirement .venv/audited.txt --no-deps --disable-pip

clean:
	rm -rf .venv demo valles build dist *.egg-info
