# `make demo` and `make test` build .venv by themselves; nothing is installed outside of it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A ROS 2 installation that is already sourced is used; otherwise rclpy comes as wheels.
SYSTEM_ROS := $(shell $(PYTHON) -c 'import rclpy' 2>/dev/null && echo yes)
comma := ,
EXTRAS := $(if $(SYSTEM_ROS),dev,dev$(comma)ros)
# Label files, result files and the official program's numbers, in $(DATA)/kitti_eval.
DATA ?= ../shared/data
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: install lint types test demo parity bench clean

install: $(STAMP)

$(STAMP): setup.py setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed; set PYTHON=/path/to/python3")'
	$(PYTHON) -m venv $(if $(SYSTEM_ROS),--system-site-packages) $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $(STAMP)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

test: lint types
	$(BIN)/python -m pytest

demo: install
	$(BIN)/pointdistiller demo --output demo_output

parity: install
	$(BIN)/python benchmarks/kitti_parity.py --data $(DATA)/kitti_eval --json bench_output/kitti_parity.json

# Tables on the screen, JSON in bench_output/; times mean something on a quiet machine alone.
bench: install
	$(BIN)/python benchmarks/point_cloud2.py
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/memory.py --clouds 1000
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/input_pipeline.py --device cpu --batch-size 2
	FASTDDS_DEFAULT_PROFILES_FILE=config/dds/fastdds.xml $(BIN)/python benchmarks/node.py --minutes 10
	$(BIN)/python benchmarks/swaps.py
	[ ! -d $(DATA)/kitti_eval ] || $(BIN)/python benchmarks/kitti_metric.py --data $(DATA)/kitti_eval

clean:
	rm -rf $(VENV) build install log *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
