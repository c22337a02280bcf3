"""4-bit layers on a machine without a GPU."""

from __future__ import annotations


def quantise_on_cpu() -> None:
    """WORK-AROUND transformers 4.48.0: it refuses bitsandbytes on a CPU, which bitsandbytes >= 0.46 can do.

    `_validate_bnb_multi_backend_availability` (integrations/bitsandbytes.py) then fails at `discard` on a frozenset.
    Can go with transformers 4.49 or newer, which asks bitsandbytes.
    """
    import transformers.integrations as integrations

    integrations.validate_bnb_backend_availability = lambda raise_exception=False: True
