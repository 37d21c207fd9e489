"""The command line of candles: `python -m candles check` and `download`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import utils
from candles.checks import check_candles
from candles.formats import read_file

logger = logging.getLogger("candles")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m candles", description="Check candle files, or fetch candles."
    )
    commands = parser.add_subparsers(required=True)
    check = commands.add_parser("check", help="report on candle files")
    check.set_defaults(run=_check)
    check.add_argument("files", nargs="+", metavar="FILE")
    check.add_argument("--timeframe", help="the timeframe wanted, such as 5m")
    check.add_argument(
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
    options = parser.parse_args(arguments)
    options.run(options)


def _check(options: argparse.Namespace) -> None:
    refused = []
    for file in options.files:
        table = read_file(file, timezone=options.timezone)
        report = check_candles(table, timeframe=options.timeframe)
        logger.info("%s\n%s", file, report.summary())
        refused += [file] if report.problems else []
    if refused:
        raise utils.DataError(f"expected good candles. Received: {', '.join(refused)}.")


def _download(options: argparse.Namespace) -> None:
    from candles import archives, exchanges
    from candles.periods import plan_periods

    today = datetime.now(UTC).date()
    periods = plan_periods(options.start, options.end, today=today)
    what = (options.pair, options.timeframe, periods)
    if options.exchange:
        files = exchanges.download_from_exchange(
            options.exchange, *what, output_dir=options.output_dir
        )
    else:
        files = archives.download_archives(
            *what,
            market=options.market,
            output_dir=options.output_dir,
            fetcher=archives.Fetcher(base_url=options.base_url or archives.BASE_URL),
        )
    logger.info(
        "%s in %s", utils.counted(len(files), "file", "files"), options.output_dir
    )


if __name__ == "__main__":
    sys.exit(main())
