"""What the text of a notebook's chunk stands for: lines of JSON strings are what somebody typed. Pure."""

import json
import re

# The language of chunks cut from the cells of a Jupyter notebook.
NOTEBOOK = "jupyter"
# What stands in a notebook between the sources of two cells when no output does, from quote to quote.
_SCALAR = r'(?:"[^"\\]*"|-?\d+|null|true|false)'
_FLAT = r'\{(?:[^{}"]|"[^"\\]*"|\{[^{}]*\})*\}'
BETWEEN_CELLS = re.compile(
    rf'(?<!\\)"\s*+(?:\]\s*+)?\}}\s*+,\s*+\{{(?:\s*+"\w++"\s*+:\s*+(?:{_SCALAR}|{_FLAT}|\[\s*+\])\s*+,)*'
    r'\s*+"source"\s*+:\s*+\[?\s*+"'
)


def source_of_cell(text: str) -> str:
    """The lines that the JSON strings of a notebook chunk's text stand for; an empty line between two cells.

    Total: a line that is not one or more strings (it holds a marker, or part of a string) stays as it is.
    """
    text = BETWEEN_CELLS.sub(r'",\n"\\n\\n",\n"', text)
    return "".join(_unquoted(line) for line in text.split("\n")).rstrip("\n")


def _unquoted(line: str) -> str:
    try:
        value = "".join(json.loads(f"[{line.strip().removesuffix(',')}]"))
        value.encode()  # half a surrogate pair cannot be sent
    except (ValueError, RecursionError, TypeError):
        return line + "\n"
    return value
