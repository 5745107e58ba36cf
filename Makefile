# SPDX-License-Identifier: BSD-3-Clause
# Every target installs first what it needs and is missing (tools/setup), then builds with CMake presets into build/.
#
#   SETUP=no                  use what is installed, install nothing
#   CMAKE_PREFIX_PATH=FOLDER  build with the LibTorch in that folder
#   PREFIX=FOLDER             where `make install` installs (DESTDIR is honoured)
#   JOBS=N                    compilers and tests at once
SHELL := bash
MAKEFLAGS += --no-print-directory
PREFIX ?= /usr/local
SETUP ?= yes
JOBS ?= $(shell tools/jobs)
export CMAKE_BUILD_PARALLEL_LEVEL = $(JOBS)
export CMAKE_PREFIX_PATH
export NINJA_STATUS = [%f/%t] 

setup = $(if $(filter no,$(SETUP)),true,tools/setup)
# $(call build,PRESET[,TARGET...]): LibTorch is looked for again each time, for the user may name another.
build = cmake --preset $(1) -ULibTorch_DIR --log-level=WARNING >/dev/null && cmake --build --preset $(1) $(if $(2),--target $(2))
run_tests = ctest --preset $(1) -j $(JOBS)

.PHONY: help demo test core python python-bench sweep asan tsan sanitize clang crash crash-ranks kill fuzz fuzz-python bench install format format-check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo:  ## train, kill, resume, and prove that nothing was lost (writes a page with the curves)
	@$(setup) core torch
	@$(call build,release,demo)
	@build/release/bin/demo $(ARGS)

test:  ## build and run every test
	@$(setup) core torch python frameworks format fuzz
	@$(MAKE) format-check sanitize SETUP=no
	@$(call build,release)
	@$(call run_tests,release)

core:  ## build and test all that needs no LibTorch
	@$(setup) core
	@$(call build,core)
	@$(call run_tests,core)

python:  ## build the wheel, install it into a clean environment, and test it there
	@$(setup) core torch python
	@tools/test-wheel

fuzz-python:  ## read the fuzzers' files and changes of them with the Python package, MINUTES=n (default 1)
	@$(setup) core torch python
	@$(call build,core,write_seeds)
	@tools/fuzz-python $$((60 * $(or $(MINUTES),1)))

python-bench:  ## measure the package's save and load beside PyTorch's (after make python)
	@build/wheel/venv/bin/python python/bench/entry_points.py $(ARGS)

sweep:  ## resume with every optimizer and scheduler there is, and compare with PyTorch (ARGS="--package heavyball")
	@$(setup) core torch python sweep
	@tools/wheel
	@build/wheel/venv/bin/python python/sweep --jobs $(JOBS) $(ARGS)

asan:  ## test the core under the address and undefined-behaviour sanitizers
	@$(setup) core
	@$(call build,asan)
	@$(call run_tests,asan)

tsan:  ## test the saves in the background under the thread sanitizer
	@$(setup) core
	@$(call build,tsan)
	@$(call run_tests,tsan)

clang:  ## build and run every test with clang
	@$(setup) core torch python clang
	@$(call build,clang)
	@$(call run_tests,clang)

crash:  ## a million disks that a crash could leave behind a run (IMAGES=N)
	@$(setup) core
	@$(call build,core,run_crash_test)
	@TORCHKEEP_CRASH_IMAGES=$(or $(IMAGES),1000000) build/core/bin/run_crash_test

crash-ranks:  ## a million disks that a crash could leave behind a training of several ranks (IMAGES=N)
	@$(setup) core
	@$(call build,core,ranks_crash_test)
	@TORCHKEEP_CRASH_IMAGES=$(or $(IMAGES),1000000) build/core/bin/ranks_crash_test

kill:  ## kill a training with SIGKILL again and again (N=1000)
	@$(setup) core torch
	@$(call build,release,run_kill_test)
	@TORCHKEEP_KILLS=$(or $(N),1000) TORCHKEEP_KILL_SEED=$(or $(SEED),1) build/release/bin/run_kill_test

no_fuzzers = echo "fuzz: skipped, for clang++ with libFuzzer is not installed (tools/setup fuzz)"

# The core's tests under the sanitizers, and every fuzzer for 5 seconds: out of one build, where clang has libFuzzer.
sanitize:
	@if tools/fuzz --available; then $(call build,fuzz,all) && $(call run_tests,fuzz) && tools/fuzz 5; \
	else $(no_fuzzers); $(MAKE) asan SETUP=no; fi

fuzz:  ## fuzz every reader for MINUTES=n each (default 1)
	@$(setup) core fuzz
	@if tools/fuzz --available; then $(call build,fuzz) && tools/fuzz $$((60 * $(or $(MINUTES),1))); \
	else $(no_fuzzers); fi

bench:  ## measure saving and loading beside PyTorch and others; a report and a picture (ARGS="--size quick")
	@$(setup) core torch bench
	@$(call build,release,bench)
	@build/release/bin/bench $(ARGS)
	@[ ! -x build/wheel/venv/bin/torchkeep ] || $(MAKE) python-bench ARGS=

install:  ## install the libraries and the program torchkeep into PREFIX
	@$(setup) core torch
	@$(call build,package)
	@cmake --install build/package --prefix "$(PREFIX)" >/dev/null
	@echo "installed into $(PREFIX)"

format:  ## format every C++ file
	@$(setup) format
	@tools/format

format-check:  ## say which C++ files are not formatted
	@$(setup) format
	@tools/format --check

clean:  ## remove what was built (not .venv)
	@rm -rf build
