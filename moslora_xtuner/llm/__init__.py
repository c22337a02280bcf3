"""Language models and their tokenizers as they lie on disk: two families, loaded without remote code."""
