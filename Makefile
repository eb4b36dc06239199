# `make demo` and `make test` build .venv by themselves; nothing is installed outside of it.
# A ROS 2 installation that is already sourced is used; otherwise rclpy comes as wheels: ROS=kilted or jazzy.
ROS ?= kilted
# Jazzy's wheels are for Python 3.12 alone.
PYTHON312 := $(firstword $(shell for python in python3.12 $(HOME)/.pyenv/versions/3.12*/bin/python3.12; do \
	$$python -c '' 2>/dev/null && echo $$python; done))
PYTHON ?= $(if $(filter jazzy,$(ROS)),$(or $(PYTHON312),python3.12),python3)
SYSTEM_ROS := $(if $(AMENT_PREFIX_PATH),$(shell $(PYTHON) -c 'import rclpy' 2>/dev/null && echo yes))
VENV := .venv$(if $(filter-out kilted,$(ROS)),-$(ROS))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(if $(SYSTEM_ROS),on-$(ROS_DISTRO),for-$(ROS))
comma := ,
EXTRAS := $(if $(SYSTEM_ROS),dev,dev$(comma)ros-$(ROS))
PINS := $(VENV)/constraints.txt
# ROS 2's messages are compiled for its own major version of NumPy, and colcon calls setup.py.
NUMPY_OF_ROS = import numpy; print("numpy<" + str(int(numpy.__version__.split(".")[0]) + 1))
# Label files, result files and the official program's numbers, in $(DATA)/kitti_eval.
DATA ?= ../shared/data
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
# Processes of make test; test/conftest.py says what each of them gets.
WORKERS ?= 2

.PHONY: install lint types test test-jazzy test-nodes demo parity bench rooms clean

install: $(STAMP)

$(STAMP): setup.py setup.cfg constraints.txt constraints-kilted.txt constraints-jazzy.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed; set PYTHON=/path/to/python3")'
ifeq ($(SYSTEM_ROS),yes)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	grep -vE '^(numpy|ml_dtypes)==' constraints.txt > $(PINS)
	$(PYTHON) -c '$(NUMPY_OF_ROS)' >> $(PINS)
	echo 'setuptools<80' >> $(PINS)
else
	@[ -f constraints-$(ROS).txt ] || { echo 'There are wheels for ROS=kilted and ROS=jazzy; source another ROS 2 instead' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	cat constraints.txt constraints-$(ROS).txt > $(PINS)
endif
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c $(PINS) torch
	$(BIN)/python -m pip install --quiet -c $(PINS) -e '.[$(EXTRAS)]'
	rm -f $(VENV)/.installed*
	touch $(STAMP)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

test: lint types
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

# The tests of the nodes on Jazzy, with rclpy as wheels.
test-jazzy:
ifneq ($(AMENT_PREFIX_PATH),)
	@echo 'skipped test-jazzy: a ROS 2 is sourced, and make test takes that'
else ifeq ($(PYTHON312),)
	@echo 'skipped test-jazzy: its wheels of rclpy need Python 3.12, which is not found'
else
	$(MAKE) ROS=jazzy PYTHON=$(PYTHON312) test-nodes
endif

test-nodes: install
	$(BIN)/python -m pytest test/ros test/integration

demo: install
	$(BIN)/pointdistiller demo --output demo_output

parity: install
	$(BIN)/python benchmarks/kitti_parity.py --data $(DATA)/kitti_eval --json bench_output/kitti_parity.json

# Tables on the screen, JSON in bench_output/; times mean something on a quiet machine alone.
bench: install
	$(BIN)/python benchmarks/point_cloud2.py
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/latency.py --models 4x second_4x second_lite --backends openvino-int8 --busy 1 \
		--json bench_output/latency_busy.json
	$(BIN)/python benchmarks/memory.py --clouds 1000
	$(BIN)/python benchmarks/memory.py --model second_4x --clouds 200 --json bench_output/memory_second.json
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/bag_conversion.py
	$(BIN)/python benchmarks/input_pipeline.py --device cpu --batch-size 2
	FASTDDS_DEFAULT_PROFILES_FILE=config/dds/fastdds.xml $(BIN)/python benchmarks/node.py --minutes 10
	$(BIN)/python benchmarks/swaps.py
	[ ! -d $(DATA)/kitti_eval ] || $(BIN)/python benchmarks/kitti_metric.py --data $(DATA)/kitti_eval

# The picture of the rooms in docs/conventions.md, from their imports.
rooms: install
	$(BIN)/python docs/draw_rooms.py

clean:
	rm -rf .venv .venv-* build install log *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
