"""From records to the token store."""
