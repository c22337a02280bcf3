"""Evaluation: inference, scoring by VLMEvalKit, statistics, radar and report (installed as moslora_xtuner.eval)."""
