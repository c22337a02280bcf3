"""What answers: a LLaVA on disk, in several processes, or behind a server."""
