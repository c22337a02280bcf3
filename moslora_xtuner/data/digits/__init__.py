"""DigitsVQA: questions about real handwritten digits, made on the user's own machine.

The way of the data: `scenes` draws pictures from scikit-learn's digits, `questions` asks about them in
English and Chinese, `write` puts both on disk as PNG files, LLaVA JSON and VLMEvalKit tables.
"""
