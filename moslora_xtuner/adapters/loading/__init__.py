"""An adapter's weights on their way into a model: what comes in is checked before anything is changed."""
