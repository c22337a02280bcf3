"""What the commands scripts/document_*.py are made of."""
