"""Parts of scripts/study_commonsense.py."""
