"""Parts of the scripts about commonsense reasoning (docs/commonsense.md)."""
