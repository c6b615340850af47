# `make demo` and `make test` set themselves up; everything they make lies in this folder (and, for the tests that switch
# users or boot a system, in folders below /var/tmp).
PYTHON ?= python3
LOCK := packaging/lock
VENV := $(PYTHON) packaging/venv.py
# More arguments for pytest: make test ARGS="-k nginx -x"
ARGS ?=

# How long `make torture` goes on, in seconds, and with which seed (printed if none is given).
TORTURE_S ?= 600

.PHONY: demo test torture bench lint lock pages screenshots rpm release clean python

demo: python
	@$(VENV) .venv --project $(LOCK)/demo.txt
	@.venv/bin/python -m jlabd.demo

# One process runs the tests, not pytest-xdist: many of them measure how quickly something is noticed, and two cores that
# are both starting JupyterLabs would turn those into tests of the machine.
test: python
	@tests/setup/apt.sh
	@tests/setup/node.sh
	@$(VENV) .venv --project $(LOCK)/demo.txt $(LOCK)/test.txt
	@$(VENV) .venv-lab3 $(LOCK)/lab3.txt
	@tests/setup/uservenv.sh
	@tests/setup/bootroot.sh
	@tests/setup/kernel.sh
	@JLABD_TEST_LAB4=$(CURDIR)/.venv JLABD_TEST_LAB3=$(CURDIR)/.venv-lab3 \
	    JLABD_TEST_USERVENV=$$(tests/setup/uservenv.sh --path) .venv/bin/python -m pytest $(ARGS)

torture: python
	@$(VENV) .venv --project $(LOCK)/demo.txt $(LOCK)/test.txt
	@JLABD_TORTURE_S=$(TORTURE_S) $(if $(SEED),JLABD_TORTURE_SEED=$(SEED)) \
	    .venv/bin/python -m pytest -s tests/system/test_torture.py $(ARGS)

# Half an hour on a machine that has nothing else to do. Needs npm for pm2 and JupyterHub's proxy.
bench: python
	@$(VENV) .venv --project $(LOCK)/demo.txt
	@$(VENV) .venv-bench $(LOCK)/bench.txt
	@mkdir -p .cache/bench/node && cp benchmarks/package.json benchmarks/package-lock.json .cache/bench/node
	@cd .cache/bench/node && npm ci --silent --ignore-scripts
	@.venv/bin/python benchmarks/bench.py $(ARGS)

lint: python
	@$(VENV) .venv --project $(LOCK)/demo.txt $(LOCK)/test.txt
	@.venv/bin/python -m pytest tests/house $(ARGS)

# Pins that still fit stay; for the newest releases: make lock UPGRADE=--upgrade
lock: python
	@$(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install -qq --disable-pip-version-check uv
	@$(LOCK)/make.sh .cache/lock/bin/uv $(UPGRADE)

# What is derived from the code: JSON schema and manual pages.
pages: python
	@$(VENV) .venv --project $(LOCK)/demo.txt
	@.venv/bin/python packaging/pages.py

# The pictures of the README, in docs/pictures, by a real browser (apt install chromium).
screenshots: python
	@$(VENV) .venv --project $(LOCK)/demo.txt $(LOCK)/test.txt
	@.venv/bin/python docs/screenshots.py

# Into dist/: for EL 9 and 10, and the source package. Needs rpmbuild and a CPython 3.12 (PYTHON312 names one).
rpm: python
	@$(PYTHON) packaging/rpm.py $(ARGS)

# Everything that is published, into dist/, from a new commit and tag: make release VERSION=1.2.3
release: python
	@$(VENV) .venv --project $(LOCK)/demo.txt $(LOCK)/test.txt
	@.venv/bin/python packaging/release.py $(VERSION) $(ARGS)

clean:
	rm -rf .venv .venv-lab3 .venv-bench .cache .demo build dist *.egg-info .coverage .*_cache .hypothesis
	rm -rf "$$(dirname "$$(tests/setup/uservenv.sh --path)")"
	rm -rf "$$(dirname "$$(tests/setup/kernel.sh --path)")"
	for suite in bookworm trixie; do \
	    rm -rf --one-file-system "$$(dirname "$$(tests/setup/bootroot.sh --path $$suite)")"; done

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "jlabd needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there)." \
	        "Name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
