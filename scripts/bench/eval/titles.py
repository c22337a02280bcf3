"""What the ways of answering are called in tables."""

WAYS = {
    "stock": "VLMEvalKit's loop, transformers' generate",
    "one": "VLMEvalKit's loop, our model one by one",
    "batched": "moslora eval",
}
