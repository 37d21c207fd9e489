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
from matplotlib.layout_engine import ConstrainedLayoutEngine

BLANK_PNG = b"\x89PNG\r\n\x1a\n"
BLANK_SVG = '<svg viewBox="0 0 1 1"></svg>'
_RENDERING = (Figure.savefig, ConstrainedLayoutEngine.execute)


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


_BLANK = (_save_blank, lambda _, figure: None)


@contextlib.contextmanager
def pictures(*, are_rendered):
    """Has figures saved as they are drawn, or as empty files."""
    with pytest.MonkeyPatch.context() as patch:
        save, find_places = _RENDERING if are_rendered else _BLANK
        patch.setattr(Figure, "savefig", save)
        patch.setattr(ConstrainedLayoutEngine, "execute", find_places)
        yield
