# Two commands: `make demo` runs the main job, `make test` checks everything. Both make their own environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT := out/demo
# Installed before anything that depends on them, so that a later release is never pulled in on the way.
TORCH ?= torch==2.13.0 torchvision==0.28.0
# A folder of real CT data, which is no part of the repository; what is not there is left out.
DTVIT_DATA ?= ../shared/data
REAL_STUDIES := $(wildcard $(DTVIT_DATA)/studies)

DEMO_MODEL := export/demo/demo.safetensors
PHE_SICH := $(DTVIT_DATA)/phe-sich
VIT_S := $(DTVIT_DATA)/weights/vit_small_patch14_dinov2.safetensors
# glibc gives freed tensors back to the system at once and fetches them again: a fifth of a CPU training's time.
TRAIN := MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=100000000 \
         $(BIN)/dtvit-edge train

NATIVE := dtvit_edge/preprocess/libdtvit_native.so

.PHONY: demo bench-demo bench-encoders gpu-check test test-real test-wheel lint types types-of-the-oldest-python clean \
  demo-training phe-sich lock sbom dist bedside-tools

# The whole main job: the committed checkpoint becomes a bundle with int8 (ranges and the gate's verdict from phantoms of
# other heads), which scores studies. Interrupted, the same command goes on.
demo: $(NATIVE) $(OUT)/calibration/truth.csv $(OUT)/phantoms/truth.csv | $(VENV)/.workstation
	$(BIN)/dtvit-edge deploy $(DEMO_MODEL) -o $(OUT)/demo.dtvit --slices $(OUT)/calibration/truth.csv --overwrite \
	  --tune-seconds 20
	$(BIN)/dtvit-edge score $(OUT)/demo.dtvit $(OUT)/phantoms $(REAL_STUDIES) -o $(OUT)/results --overwrite --report
	@echo "bundle: $(OUT)/demo.dtvit   phantom studies and their truth: $(OUT)/phantoms   results: $(OUT)/results"
	@echo "report: $(abspath $(OUT)/results/report/index.html)"

# The library of the CPU path, for this checkout. Without a C compiler nothing is made, and OpenCV prepares slices.
$(NATIVE): dtvit_edge/preprocess/native.c hatch_build.py
	$(PYTHON) hatch_build.py

# Written last: where it is there, so are the phantoms.
$(OUT)/%/truth.csv: | $(VENV)/.workstation
	rm -rf $(@D)
	$(BIN)/dtvit-edge phantom $(@D) $(PHANTOMS)

$(OUT)/calibration/truth.csv: PHANTOMS := --studies 60 --seed 7000
$(OUT)/phantoms/truth.csv: PHANTOMS := --studies 4 --seed 1

# On a machine with a GPU: everything that needs one, about a ready bundle (docs/first-gpu-run.md). It asks for no network,
# no environment of this Makefile and no torch; GPU_CHECK takes more options, --list among them.
GPU_PYTHON ?= python3
GPU_OUT ?= out/gpu-check
gpu-check:
	@test -n "$(BUNDLE)" || { echo "make gpu-check BUNDLE=path/to/ready.dtvit (with its int8 files)" >&2; exit 2; }
	@test -d $(GPU_OUT)/phantoms || $(GPU_PYTHON) -m dtvit_edge phantom $(GPU_OUT)/phantoms --studies 8 --seed 1
	$(GPU_PYTHON) -m benchmarks.gpu_check $(BUNDLE) $(GPU_OUT)/phantoms -o $(GPU_OUT) $(GPU_CHECK)

# The demo bundle against PyTorch, plain exports and plain scripts on this machine: out/demo/bench/report.html.
bench-demo: demo
	$(BIN)/dtvit-edge bench $(OUT)/demo.dtvit -o $(OUT)/bench --weights $(DEMO_MODEL) --peers --layers --duration 20 $(BENCH)

# Which encoder: the demo's ViT and a ResNet18, both trained on phantoms, and the speed of the paper's ViT-B/16 and VGG16.
bench-encoders: demo
	$(TRAIN) phantoms:1500 -o out/resnet18-training --training synthetic --encoder resnet18 \
	  --epochs 3 --batch 16 --no-augment --flip --optimizer adamw --learning-rate 0.001 --weight-decay 0.05 \
	  --schedule cosine --warmup-epochs 1 --precision bf16
	-$(BIN)/dtvit-edge deploy out/resnet18-training/best.safetensors -o out/resnet18.dtvit --overwrite --tune-seconds 0 \
	  --slices $(OUT)/calibration/truth.csv
	$(BIN)/python -m export.untrained vgg16 out/vgg16.safetensors
	$(BIN)/dtvit-edge export out/vgg16.safetensors -o out/vgg16.dtvit --overwrite
	$(BIN)/python -m export.untrained vit_base_patch16_224 out/vit-b16.safetensors
	-$(BIN)/dtvit-edge deploy out/vit-b16.safetensors -o out/vit-b16.dtvit --overwrite --tune-seconds 0 \
	  --slices $(OUT)/calibration/truth.csv --count 128
	$(BIN)/dtvit-edge bench $(OUT)/demo.dtvit out/resnet18.dtvit out/vit-b16.dtvit out/vgg16.dtvit -o out/bench-encoders \
	  --slices phantoms:40@8000000 --agreement 0 --delta-auc 1 --difference 1 --shift-slices 0 $(BENCH)

# Debian's Orthanc, dcmtk and dicom3tools, unpacked into build/ for `make test-real`; nothing is installed, and no root is
# needed. Where they are installed already, this is not.
BEDSIDE_TOOLS := orthanc orthanc-dicomweb dcmtk dicom3tools libdcmtk17 libgdcm3.0 libcivetweb1 liblua5.3-0 libpugixml1v5 \
  libsocket++1 libwrap0 libcharls2 libopenjp2-7 libboost-locale1.74.0 libboost-thread1.74.0 libboost-filesystem1.74.0 \
  libboost-regex1.74.0 libboost-iostreams1.74.0 libboost-date-time1.74.0 libjsoncpp25 libuuid1 libicu72
bedside-tools:
	rm -rf build/bedside-tools && mkdir -p build/bedside-tools/packages
	cd build/bedside-tools/packages && apt-get download --quiet $(BEDSIDE_TOOLS)
	for package in build/bedside-tools/packages/*.deb; do dpkg -x $$package build/bedside-tools || exit; done
	rm -r build/bedside-tools/packages

# A worker begins with a half of the tests in their order, so that a module's fixtures are seldom made twice. With more
# threads than one the workers, and what they start, would wait for each other at full speed.
test: lint $(NATIVE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m 'not real' --durations 20 --durations-min 3

# Against servers and libraries of other people, where they are installed; a test that needs one that is absent skips and
# says so. pytest's status 5 means that no test was collected.
test-real: $(VENV)/.dev $(VENV)/.real $(NATIVE)
	$(BIN)/python -m pytest -m real -rs --durations 20 --durations-min 3 || test $$? -eq 5

# The wheel by itself under another interpreter: `make test-wheel PYTHON=python3.10`. The tests are copied away from the
# checkout, so that it is the wheel that they import; those of the workstation's rooms are left out and named. ONNX
# and one module of export write the graphs that the tests run; they come after the wheel was tried without them.
# `make test-wheel WHEEL=dist/NAME.whl` tests that one; else the pure wheel is built, which prepares slices with OpenCV.
WHEEL ?=
WHEEL_TEST = build/wheel-$(notdir $(PYTHON))-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
test-wheel: build/tools/.installed
	rm -rf $(WHEEL_TEST)
	mkdir -p $(WHEEL_TEST)/tests
	$(PYTHON) -m venv $(WHEEL_TEST)/venv
	$(if $(WHEEL),cp $(WHEEL),$(HATCH) build -t wheel -d) $(WHEEL_TEST)
	$(WHEEL_TEST)/venv/bin/pip $(LOCKED) requirements/runtime.txt
	$(WHEEL_TEST)/venv/bin/pip install --quiet --no-deps --no-index $(WHEEL_TEST)/*.whl
	$(WHEEL_TEST)/venv/bin/pip check
	cp -r tests/conftest.py tests/dtvit_edge tests/support $(WHEEL_TEST)/tests
	mkdir $(WHEEL_TEST)/export && cp export/__init__.py export/opset.py $(WHEEL_TEST)/export
	cp pyproject.toml $(WHEEL_TEST)
	cd $(WHEEL_TEST) && venv/bin/dtvit-edge doctor && venv/bin/dtvit-edge phantom phantoms --studies 1
	$(WHEEL_TEST)/venv/bin/pip $(LOCKED) requirements/wheel-tests.txt
	cd $(WHEEL_TEST) && DTVIT_DATA=$(abspath $(DTVIT_DATA)) \
	  venv/bin/python -m pytest -rs -p tests.support.runtime_only -p no:cacheprovider -m 'not real' tests/dtvit_edge

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target types types-of-the-oldest-python

types: $(VENV)/.dev
	$(BIN)/mypy

types-of-the-oldest-python: $(VENV)/.dev
	$(BIN)/mypy --python-version 3.10

# Only files whose hashes the lock names are installed; PyTorch comes before, in the build that suits the machine.
LOCKED = install --quiet --require-hashes --no-deps --requirement
HATCH = build/tools/bin/python -m hatchling
OURSELVES = install --quiet --no-deps --no-build-isolation --editable .

$(VENV)/.workstation: pyproject.toml requirements/workstation.txt | $(VENV)/.torch
	$(BIN)/pip $(LOCKED) requirements/workstation.txt
	$(BIN)/pip $(OURSELVES)
	@touch $@

$(VENV)/.dev: pyproject.toml requirements/dev.txt | $(VENV)/.torch
	$(BIN)/pip $(LOCKED) requirements/dev.txt
	$(BIN)/pip $(OURSELVES)
	@touch $@

# The Triton server has wheels for glibc 2.35 and newer alone: elsewhere its tests skip.
$(VENV)/.real: requirements/real.txt requirements/triton-server.txt | $(VENV)/.dev
	$(BIN)/pip $(LOCKED) requirements/real.txt
	-$(BIN)/pip $(LOCKED) requirements/triton-server.txt
	@touch $@

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	@touch $@

# The locks, for Python 3.10 and newer on every system: a package has the version of dev in all of them. runtime is what
# the wheel asks for; real, wheel-tests, tools and platform-wheels are groups of pyproject.toml, by themselves.
# `make lock LOCK=--upgrade` takes newer ones.
LOCK ?=
UV = build/tools/bin/uv pip compile --quiet --config-file requirements/uv.toml --universal --python-version 3.10 \
     --generate-hashes --no-annotate --no-emit-package torch --no-emit-package torchvision \
     --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(LOCK) pyproject.toml
lock: build/tools/.installed
	$(UV) --group dev --output-file requirements/dev.txt
	$(UV) --group workstation --constraint requirements/dev.txt --output-file requirements/workstation.txt
	$(UV) --constraint requirements/dev.txt --output-file requirements/runtime.txt
	for group in real wheel-tests tools platform-wheels; do \
	  $(UV:pyproject.toml=) --group $$group --constraint requirements/dev.txt --output-file requirements/$$group.txt || exit; \
	done

build/tools/.installed: requirements/tools.txt
	$(PYTHON) -m venv build/tools
	build/tools/bin/pip $(LOCKED) requirements/tools.txt
	@touch $@

# Every package of .venv with its version and licence (CycloneDX 1.6), PyTorch's among them.
SBOM ?= build/sbom.cdx.json
sbom: $(VENV)/.workstation build/tools/.installed
	build/tools/bin/cyclonedx-py environment --pyproject pyproject.toml \
	  --output-reproducible --spec-version 1.6 --output-file $(SBOM) $(BIN)/python
	@echo "$(SBOM)"

# The source distribution, the pure wheel, and a wheel for each platform whose library zig compiles (hatch_build.py).
dist: build/platform-wheels/.installed
	rm -rf dist
	build/platform-wheels/bin/python -m hatchling build -d dist
	for machine in x86_64 aarch64; do \
	  DTVIT_WHEEL=$$machine build/platform-wheels/bin/python -m hatchling build -t wheel -d dist || exit; \
	done

build/platform-wheels/.installed: requirements/platform-wheels.txt
	$(PYTHON) -m venv build/platform-wheels
	build/platform-wheels/bin/pip $(LOCKED) requirements/platform-wheels.txt
	@touch $@

# The committed demo checkpoint, from nothing. Interrupted, the same command goes on.
demo-training: $(VENV)/.workstation
	$(TRAIN) phantoms:5000 -o out/demo-training --training synthetic --encoder dtvit_stem_vit_64 --half-weights \
	  --epochs 12 --batch 16 --no-augment --flip --optimizer adamw --learning-rate 0.001 --weight-decay 0.05 \
	  --schedule cosine --warmup-epochs 1 --precision bf16 --patch-weight 20
	$(BIN)/dtvit-edge evaluate phantoms:400@9000000 out/demo-training/best.safetensors -o out/demo-training/report

# A model of real slices for calibration and benchmarks; its weights stay in out/. Interrupted, the same command goes on.
phe-sich: $(VENV)/.workstation
	$(BIN)/python -m training.phe_sich $(PHE_SICH) out/phe-sich/labels.csv
	$(TRAIN) out/phe-sich/labels.csv -o out/phe-sich/vit-s14 --training clinical-unvalidated \
	  --encoder vit_small_patch14_dinov2 --init $(VIT_S) --frozen-blocks 9 --encoder-rate 0.2 \
	  --epochs 5 --batch 32 --optimizer adamw --learning-rate 0.0005 --weight-decay 0.05 \
	  --schedule cosine --precision bf16 --test-folds 2
	$(BIN)/dtvit-edge evaluate out/phe-sich/labels.csv out/phe-sich/vit-s14 -o out/phe-sich/report

clean:
	rm -rf out build dist $(NATIVE)
