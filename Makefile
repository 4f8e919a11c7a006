# make demo: the main job on bundled data.  make test: everything that must hold.  Both make the environment first.
PYTHON ?= python3
PYTHON_LOWEST ?= python3.10
VENV ?= .venv
LOWEST := .venv-lowest
APART := .apart
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# timm imports torchvision. Of 0.16.2 the tests use none of its own code, so that it need not be built for this torch; newer ones must be.
TORCHVISION := 'torchvision==0.16.2; python_version < "3.12"' 'torchvision==0.28.0; python_version >= "3.12"'

.PHONY: demo test lint types docs unit test-lowest test-wheel package cost scale safety accuracy fine-tuning clean

demo: $(VENV)/.demo
	$(BIN)/lrfinder demo -o lr.png -o lr.json

test: lint types docs unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# Warnings are errors, and so is a name of ours that leads nowhere.
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

# All tests with the oldest versions that pyproject.toml names, on the oldest Python. PyPI's torch of that time is several GB.
test-lowest: $(LOWEST)/.dev
	$(LOWEST)/bin/python -m pytest -n 2

# Wheel and sdist into dist/.
package: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/python -m twine check --strict dist/*

# All tests from the wheel alone: an environment and a folder of their own, without the sources.
test-wheel: package
	rm -rf $(APART)
	$(PYTHON) -m venv $(APART)/venv
	$(APART)/venv/bin/python -m pip install --quiet --constraint constraints.txt "$$(echo dist/*.whl)[dev]"
	$(APART)/venv/bin/python -m pip install --quiet --no-deps timm $(TORCHVISION)
	tar -xzf dist/*.tar.gz -C $(APART) --strip-components 1
	rm -r $(APART)/hessian $(APART)/lrfinder
	cd $(APART) && venv/bin/python -m pytest -n 2 tests

# Needs the peers: see benchmarks/requirements.txt.
cost:
	$(BIN)/python benchmarks/cost.py

# Linux, some eight minutes on two idle cores.
scale: $(VENV)/.dev
	$(BIN)/python benchmarks/scale.py

# A peer that is not installed keeps its figures.
safety: $(VENV)/.dev
	$(BIN)/python benchmarks/safety.py

# The truth is kept; what it takes is asking find_lr again and writing the page.
accuracy: $(VENV)/.dev
	$(BIN)/python benchmarks/accuracy.py ours
	$(BIN)/python benchmarks/accuracy.py warmup
	$(BIN)/python benchmarks/accuracy.py page

# The same: the brute force and the peers' answers are kept. The model is pretrained first, which takes minutes, where it is not there.
fine-tuning: $(VENV)/.dev
	$(BIN)/python benchmarks/fine_tuning.py ours
	$(BIN)/python benchmarks/fine_tuning.py page

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "lrfinder needs Python 3.10 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev]'
	$(INSTALL) --no-deps timm $(TORCHVISION)
	touch $@ $(VENV)/.demo

# Matplotlib of that time calls what newer versions of pyparsing warn of. The torchvision is that torch's.
$(LOWEST)/.dev: pyproject.toml
	$(PYTHON_LOWEST) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]' 'pyparsing<3.2'
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps timm torchvision==0.21.0
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(APART) dist docs/_build lr.png lr.json lr.html
