"""The loss on records that are not trained on, and the adapter that has the lowest."""
