"""The names of what a training run leaves in its folder."""

ADAPTERS = "adapters"
LLM = "llm"
VISUAL_ENCODER = "visual_encoder"
PROJECTOR = "projector"
MANIFEST = "training.json"
