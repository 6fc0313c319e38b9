"""Where in a user's code an index was written: whether a function of JAX made it, or the user."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from typing import Any

# Of the files of JAX, those through which an index of the user comes; one of another file is that file's own affair.
DOORS = ("ops/scatter.py", "numpy/indexing.py", "numpy/array_methods.py", "lax/slicing.py")
DOOR_FUNCTIONS = {"take", "_take", "take_along_axis"}
FUNCTIONS = ("numpy/", "ops/", "nn/", "scipy/", "lax/", "random.py", "third_party/")


def by_the_user(sites: tuple[Any, ...]) -> bool:
    """Whether the user's code asks for an access, and does not say with ``mode=`` what becomes of bad indices.

    Args:
        sites: where the equation was made, last, and the calls around it.
    """
    for file, frame in _frames(sites[-1]):
        if file is None:
            break
        inside = file.startswith(FUNCTIONS) and not file.startswith(DOORS)
        if inside and frame.function_name not in DOOR_FUNCTIONS:
            return False
    users = [next((frame for file, frame in _frames(site) if file is None), None) for site in sites]
    return not any(_mode_in(frame.file_name, frame.line_num) for frame in users if frame is not None)


def _frames(site: Any) -> list[tuple[str | None, Any]]:
    """The frames around an equation, innermost first, each with its file within JAX; None for other files."""
    traceback = getattr(site, "traceback", None)
    frames = [] if traceback is None else list(traceback.frames)
    files = [frame.file_name.replace("\\", "/").partition("jax/_src/")[2] for frame in frames]
    return [(file or None, frame) for file, frame in zip(files, frames, strict=True)]


@lru_cache(maxsize=512)
def _mode_in(file: str, line: int) -> bool:
    """Whether a call in the statement around a line of a file has ``mode=``."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return False
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    if not around:
        return False
    innermost = min(around, key=lambda node: (node.end_lineno or node.lineno) - node.lineno)
    calls = [node for node in ast.walk(innermost) if isinstance(node, ast.Call)]
    return any(word.arg == "mode" for call in calls for word in call.keywords)
