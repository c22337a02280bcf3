"""`python tests/warm/script.py CODE WORDS...` runs what `python -c CODE WORDS...` does; a file can start warm."""

import sys

code = sys.argv.pop(1)
exec(compile(code, "<string>", "exec"), sys.modules["__main__"].__dict__)
