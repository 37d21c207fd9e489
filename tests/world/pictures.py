"""Pictures without pixels: rendering them is most of a small run's time.

In: what stands in the place of matplotlib's `Figure.savefig` where a test is not about
pictures. Out: what a figure shows.
"""

import contextlib
import io
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

BLANK_PNG = b"\x89PNG\r\n\x1a\n"
BLANK_SVG = '<svg viewBox="0 0 1 1"></svg>'
_RENDERING = {
    name: getattr(Figure, name) for name in ("savefig", "draw_without_rendering")
}


def _save_blank(_, file, **options):
    caller = sys._getframe(1).f_globals["__name__"]
    assert caller.startswith("reports."), (
        "a test of pictures asks for rendered_pictures"
    )
    if options.get("format") == "svg":
        assert isinstance(file, io.StringIO)
        file.write(BLANK_SVG)
    else:
        Path(file).write_bytes(BLANK_PNG)


_BLANK = {"savefig": _save_blank, "draw_without_rendering": lambda _: None}


@contextlib.contextmanager
def pictures(*, are_rendered):
    """Has figures saved as they are drawn, or as empty files."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in (_RENDERING if are_rendered else _BLANK).items():
            patch.setattr(Figure, name, method)
        yield
