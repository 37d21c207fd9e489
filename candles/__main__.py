"""The command line of candles: `python -m candles check`, `resample`, `download`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import utils
from candles.checks import check_candles, detect_timeframe
from candles.columns import COLUMNS
from candles.formats import candle_files, read_file
from candles.table import fill_gaps, read_candles, resample_candles
from files import tables
from settings.label_fields import MAX_FILL_BARS
from settings.names import parse_candle_filename, stated_contents

logger = logging.getLogger("candles")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m candles",
        description="Check candle files, make coarser ones, or fetch candles.",
    )
    commands = parser.add_subparsers(required=True)
    check = commands.add_parser("check", help="report on candle files")
    check.set_defaults(run=_check)
    check.add_argument("files", nargs="+", metavar="FILE")
    check.add_argument("--timeframe", help="the timeframe wanted, such as 5m")
    check.add_argument(
        "--timezone", help="zone of times that state none (default: UTC)"
    )
    coarser = commands.add_parser("resample", help="make candles of longer bars")
    coarser.set_defaults(run=_resample)
    coarser.add_argument("files", nargs="+", metavar="FILE", help="joined in time")
    coarser.add_argument("--timeframe", required=True, help="the one wanted: 1h")
    coarser.add_argument(
        "--output",
        help="file in .parquet, .feather or .csv, its folder made where missing "
        "(default: beside the first file, PAIR-TIMEFRAME.parquet)",
    )
    coarser.add_argument(
        "--max-fill-bars",
        type=int,
        default=MAX_FILL_BARS,
        help="missing bars that are carried forward, as the builder does; longer bars "
        "with others missing inside are left out (default: %(default)s)",
    )
    coarser.add_argument(
        "--timezone", help="zone of times that state none (default: UTC)"
    )
    fetch = commands.add_parser("download", help="fetch candles, verified, resumable")
    fetch.set_defaults(run=_download)
    fetch.add_argument("--pair", required=True, help="such as ETHUSDT")
    fetch.add_argument("--timeframe", default="1m", help="such as 5m (default: 1m)")
    fetch.add_argument("--start", required=True, help="first month or day: 2024-01")
    fetch.add_argument("--end", required=True, help="last month or day, inclusive")
    fetch.add_argument("--market", default="spot", help="spot (default) or futures")
    fetch.add_argument("--base-url", help="another host of the public archives")
    fetch.add_argument("--exchange", help="fetch from this exchange through ccxt")
    fetch.add_argument("--output-dir", default="data", help="folder (default: data)")
    fetch.add_argument(
        "--time-limit", default="6h", help="longest time in all (default: 6h)"
    )
    options = parser.parse_args(arguments)
    options.run(options)


def _check(options: argparse.Namespace) -> None:
    refused = []
    for file in [file for path in options.files for file in candle_files(path)]:
        table = read_file(file, timezone=options.timezone)
        report = check_candles(table, timeframe=options.timeframe)
        logger.info("%s\n%s", file, report.summary())
        if contents := stated_contents(file.name):
            logger.info("problem: it is named after %s: no trades", contents)
        is_bad = report.problems or report.is_sparse or contents
        refused += [str(file)] if is_bad else []
    if refused:
        raise utils.DataError(f"expected good candles. Received: {', '.join(refused)}.")


def _resample(options: argparse.Namespace) -> None:
    first = Path(options.files[0])
    named = parse_candle_filename(first.name)
    if options.output is None and named is None:
        raise utils.ConfigError(
            f"--output: expected it where no name states the pair. Received: {first}."
        )
    pair = named[0] if named else ""
    default = first.with_name(f"{pair}-{options.timeframe}.parquet")
    output = Path(options.output or default)
    if output.resolve() in [Path(file).resolve() for file in options.files]:
        raise utils.ConfigError(
            f"--output: expected another file than those that are read. "
            f"Received: {output}."
        )
    tables.require_suffix(output, "--output")
    table = read_candles(options.files, timezone=options.timezone)
    own = detect_timeframe(table)
    for doubt in check_candles(table, timeframe=own).doubts:
        logger.info("doubtful: %s", doubt)
    filled = fill_gaps(table, own, max_fill_bars=options.max_fill_bars)
    bars = resample_candles(filled, options.timeframe, source_timeframe=own)
    bars = bars.loc[~bars["is_filled"], list(COLUMNS)]
    if bars.empty:
        raise utils.DataError(
            f"expected a whole bar of {options.timeframe}. Received: "
            f"{utils.counted(len(table), 'bar', 'bars')} of {own}. Choose a finer "
            "timeframe, or fetch more candles."
        )
    tables.write_table(output, bars)
    what = utils.counted(len(bars), "bar", "bars")
    logger.info("%s: %s of %s from %s", output, what, options.timeframe, own)


def _download(options: argparse.Namespace) -> None:
    from candles import archives, exchanges
    from files.periods import plan_periods
    from files.time_limit import TimeLimit

    try:
        limit = TimeLimit(utils.duration_seconds(options.time_limit))
    except ValueError as error:
        raise utils.ConfigError(f"--time-limit: {error}") from error
    today = datetime.now(UTC).date()
    periods = plan_periods(options.start, options.end, today=today)
    what = (options.pair, options.timeframe, periods)
    if options.exchange:
        files = exchanges.download_from_exchange(
            options.exchange, *what, output_dir=options.output_dir, limit=limit
        )
    else:
        files = archives.download_archives(
            *what,
            market=options.market,
            output_dir=options.output_dir,
            fetcher=archives.Fetcher(
                base_url=options.base_url or archives.BASE_URL, limit=limit
            ),
        )
    logger.info(
        "%s in %s", utils.counted(len(files), "file", "files"), options.output_dir
    )


if __name__ == "__main__":
    sys.exit(main())
