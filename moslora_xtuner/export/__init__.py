"""From what training leaves to what any engine serves."""
