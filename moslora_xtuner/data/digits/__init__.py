"""DigitsVQA: questions about real handwritten digits, made on the user's own machine.

The way of the data: `scenes` draws pictures from scikit-learn's digits, `questions` asks about them in
English and Chinese, `write` puts both on disk as PNG files, LLaVA JSON and VLMEvalKit tables.
"""

SCENES = 5200
"""Training records, where nobody asks for another number: what quickstart learns in ten minutes on 2 cores."""

TEST_QUESTIONS = 360
"""Questions in each test set."""
