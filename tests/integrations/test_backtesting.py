"""Trades of backtesting.py, held against this project's report."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from world.frames import PROJECT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("backtesting") is None,
    reason="backtesting is not installed: `make integrations` brings it",
)


@pytest.mark.parametrize("name", ["made_up", "with_gaps", "real"])
def test_trades_are_those_of_the_report(request, tmp_path, name):
    market = request.getfixturevalue(name)
    market.candles.to_parquet(tmp_path / "ETHUSDT-1m.parquet")
    words = [market.folder, tmp_path / "ETHUSDT-1m.parquet", "--trades", "trades.csv"]
    done = subprocess.run(
        [sys.executable, PROJECT / "examples" / "backtesting_example.py", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = pd.read_csv(tmp_path / "trades.csv")
    ours = pd.read_csv(next(market.folder.glob("trades_*.csv")))
    for column in ("EntryTime", "ExitTime"):  # opens of the bars at whose closes we are
        theirs[column] = pd.to_datetime(theirs[column]) + pd.Timedelta(minutes=1)
    for column in ("time_in", "time_out"):
        ours[column] = pd.to_datetime(ours[column])
    # Where we know of no outcome, before a gap, we hold.
    closes = market.predictions["timestamp"] + pd.Timedelta(minutes=1)
    is_known = theirs["EntryTime"].isin(closes)
    assert is_known.all() == (name != "with_gaps")
    shown = [line.split()[-2:] for line in done.stdout.splitlines()[1:]]
    assert shown[0] == [f"{len(theirs):.2f}", f"{len(ours):.2f}"]
    theirs = theirs[is_known].reset_index(drop=True)

    assert len(theirs) == len(ours) > 100
    assert (theirs["EntryTime"] == ours["time_in"]).all()
    assert (theirs["ExitTime"] == ours["time_out"]).all()
    assert ((theirs["Size"] > 0) == (ours["side"] == "LONG")).all()
    np.testing.assert_allclose(theirs["EntryPrice"], ours["entry_price"], rtol=1e-9)
    # A take profit that is jumped over fills at the open, which is better.
    is_better = np.sign(theirs["Size"]) * (theirs["ExitPrice"] - ours["exit_price"])
    assert is_better.min() > -1e-6 and (is_better > 1e-6).mean() < 0.02
    # Their commission at the exit is a share of the amount then, ours of that before.
    moved = theirs["ExitPrice"] / theirs["EntryPrice"] - 1
    fee = (market.config.fee_bps + market.config.slippage_bps) / 1e4
    expected = np.sign(theirs["Size"]) * moved - fee * (2 + moved)
    np.testing.assert_allclose(theirs["ReturnPct"], expected, atol=1e-7)
    is_same = is_better < 1e-6
    bps = (1e4 * theirs["ReturnPct"] - ours["net_bps"])[is_same]
    assert bps.abs().max() < 0.1
