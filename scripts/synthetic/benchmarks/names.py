"""What the benchmarks call their abilities, subtasks and subjects, and how columns and rows are typed.

Source: MMB_abbrs (vlmeval/dataset/utils/multiple_choice.py), MME_rating (utils/yorn.py), MMVet_acc (utils/mmvet.py) of
ms-vlmeval 0.0.20; MMBench's third level, SEED-Bench's dimensions, AI2D's and ScienceQA's subjects, MathVista's tasks
and skills, MM-Vet's 16 mixtures: the papers of each (arXiv 2307.06281, 2307.16125, 1603.07396, 2209.09513, 2310.02255,
2308.02490).
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
Key = dict[str, dict[str, Any]]
Made = tuple[list[Row], Key]
"""A benchmark's rows, and by index what a model that is right and one that is wrong would say."""

ROTATION_OFFSET = 1_000_000
"""MMBench's circular evaluation: rotation k of question i has the index i + k * 10^6."""
READ_AS_NOTHING = ("None", "NA", "N/A", "null")
"""Texts that pandas.read_csv takes for a missing value, quoted or not: VLMEvalKit never shows such an option."""

MMBENCH = {
    "coarse_perception": ("image_style", "image_topic", "image_scene", "image_emotion", "image_quality"),
    "finegrained_perception (instance-level)": (
        "object_localization", "attribute_recognition", "celebrity_recognition", "ocr",
    ),
    "finegrained_perception (cross-instance)": ("spatial_relationship", "attribute_comparison", "action_recognition"),
    "attribute_reasoning": ("physical_property_reasoning", "function_reasoning", "identity_reasoning"),
    "relation_reasoning": ("social_relation", "nature_relation", "physical_relation"),
    "logic_reasoning": ("structuralized_imagetext_understanding", "future_prediction"),
}  # fmt: skip
SEED_BENCH = (
    "Scene Understanding", "Instance Identity", "Instance Attributes", "Instance Location", "Instances Counting",
    "Spatial Relation", "Instance Interaction", "Visual Reasoning", "Text Understanding",
)  # fmt: skip
AI2D = (
    "atomStructure", "eclipses", "faultsEarthquakes", "foodChainsWebs", "lifeCycles", "moonPhaseEquinox", "partsA",
    "partsOfA", "partsOfTheEarth", "photosynthesisRespiration", "rockCycle", "rockStrata", "solarSystem", "typesOf",
    "volcano", "waterCNPCycle",
)  # fmt: skip
SCIENCE_QA = (
    "Adaptations", "Basic economic principles", "Colonial America", "Ecosystems", "Genes to traits", "Magnets", "Maps",
    "Particle motion and energy", "Solutions", "State capitals", "Velocity, acceleration, and forces",
)  # fmt: skip
MME = (
    "OCR", "artwork", "celebrity", "color", "count", "existence", "landmark", "position", "posters", "scene",
    "code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation",
)  # fmt: skip
MATHVISTA_TASKS = (
    "figure question answering", "geometry problem solving", "math word problem", "textbook question answering",
    "visual question answering",
)  # fmt: skip
MATHVISTA_SKILLS = (
    "algebraic reasoning", "arithmetic reasoning", "geometry reasoning", "logical reasoning", "numeric commonsense",
    "scientific reasoning", "statistical reasoning",
)  # fmt: skip
MMVET = (
    "rec,know,gen", "rec", "ocr,spat", "ocr,spat,math", "rec,spat", "ocr", "ocr,math", "rec,know", "rec,ocr,know,gen",
    "rec,ocr,gen,spat", "rec,ocr,spat", "rec,ocr", "ocr,know,spat", "rec,know,spat", "ocr,gen,spat",
    "rec,ocr,spat,math",
)  # fmt: skip
