"""The small language model that the study of commonsense methods tunes."""
