"""The shipped recipes, installed as `moslora_xtuner.configs` so that an installed package finds them."""
