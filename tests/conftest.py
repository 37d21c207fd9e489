import gc
import os
import sys

import pytest
from world.frames import SHARED_DATA
from world.pictures import pictures

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A seventh of a run's time is collections that find nothing; a command sets the same
# (`networks.allocator`). What tests leave behind is collected after each module.
gc.set_threshold(1_000_000)


LONGEST = ("test_faults_sample.py", "test_notebooks.py", "test_docs.py")


def pytest_collection_modifyitems(items):
    """Puts the longest first: for one that begins last, the other worker waits."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish(session):
    """Sets threads as a run does: TensorFlow takes them before its first operation.

    A resumed run compares them; which test comes first must not decide it. What the
    tests have imported is no garbage: a run that collects need not look through it.
    """
    gc.freeze()
    if "tensorflow" in sys.modules:
        from config import Config
        from model_builder import configure_runtime

        configure_runtime(Config())


@pytest.fixture(scope="module", autouse=True)
def collected_garbage():
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def blank_pictures():
    with pictures(are_rendered=False):
        yield


@pytest.fixture(scope="module")
def rendered_pictures(blank_pictures):
    """For tests of pictures: `pytest.mark.usefixtures("rendered_pictures")`."""
    with pictures(are_rendered=True):
        yield


@pytest.fixture
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip("real candles are not beside this checkout")
    return SHARED_DATA
