"""From answers to scores: VLMEvalKit scores, this reads what it wrote."""
