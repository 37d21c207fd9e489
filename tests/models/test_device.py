"""TensorFlow, imported: what of it comes later."""

import importlib
import sys

import pytest

from models.device import delayed_imports


def test_a_delayed_module_runs_when_it_is_asked_for(monkeypatch, tmp_path, capsys):
    (tmp_path / "late_one.py").write_text("print('loaded')\nvalue = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    with delayed_imports(["late_one", "missing_one"]):
        late = importlib.import_module("late_one")
        with pytest.raises(ModuleNotFoundError, match="missing_one"):
            importlib.import_module("missing_one")
    assert sys.meta_path == finders
    assert capsys.readouterr().out == ""
    assert late.value == 7
    assert capsys.readouterr().out == "loaded\n"
    monkeypatch.delitem(sys.modules, "late_one")
