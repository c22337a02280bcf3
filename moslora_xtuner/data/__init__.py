"""From raw JSON and images to what the training process reads."""
