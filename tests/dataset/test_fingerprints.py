"""Which code decides the rows of a dataset: found by its imports, never forgotten."""

import pytest

from dataset import fingerprints


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of what the digest reads, to be changed."""
    for name in fingerprints.code_modules():
        file = fingerprints._module_file(name)
        copy = tmp_path / file.relative_to(fingerprints._ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(fingerprints, "_ROOT", tmp_path)
    for cached in (fingerprints.code_modules, fingerprints.code_fingerprint):
        monkeypatch.setattr(fingerprints, cached.__name__, cached.__wrapped__)
    return tmp_path


def test_what_reads_checks_and_labels_is_among_the_code():
    names = set(fingerprints.code_modules())
    assert names >= {
        *("candles.formats", "candles.checks", "candles.timestamps", "candles.table"),
        *("dataset.features", "dataset.indicators", "dataset.labels", "dataset.rows"),
        *("dataset.dataset", "files.tables"),
    }


@pytest.mark.parametrize("name", ["files/tables.py", "dataset/labels.py"])
def test_a_changed_module_changes_the_digest(project, name):
    before = fingerprints.code_fingerprint()
    assert fingerprints.code_fingerprint() == before
    with (project / name).open("a") as stream:
        stream.write("# changed\n")
    assert fingerprints.code_fingerprint() != before


def test_a_module_that_is_not_there_is_an_error(project):
    (project / "dataset" / "rows.py").unlink()
    with pytest.raises(FileNotFoundError, match=r"rows\.py"):
        fingerprints.code_fingerprint()
