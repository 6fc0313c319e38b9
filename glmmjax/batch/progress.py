"""A bar for long work, by tqdm where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from glmmjax._errors import OptionalDependencyError


@contextmanager
def progress_bar(total: int, wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A function of (done, total) that moves the bar; None if no bar is wanted.

    Raises:
        OptionalDependencyError: tqdm is not installed.
    """
    if not wanted:
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise OptionalDependencyError(
            "progress=True needs the tqdm package: install it with pip install 'glmmjax[progress]'."
        ) from error
    with tqdm(total=total, unit="fit") as bar:
        yield lambda done, _: bar.update(done - bar.n) and None
