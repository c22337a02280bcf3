"""The commonsense data of LLM-Adapters: 170K training questions and the eight test sets of the paper's Table 4."""
