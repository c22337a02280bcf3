"""Models shown to people: a question, a conversation in the terminal, vLLM behind a port, a web page."""
