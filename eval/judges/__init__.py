"""What reads open answers: a server, a model on disk, and who judges what."""
