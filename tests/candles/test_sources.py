"""Finding candles: names of pairs, folders of downloads, what is no trade."""

import pytest

from candles import read_candles, synthetic_candles
from candles.__main__ import main
from candles.archives import download_archives
from candles.sources import find_candles
from config import Config
from settings.names import is_pair_of, stated_contents
from utils import ConfigError, DataError, MissingInputError


def found(folder, pair):
    return [path.name for path in find_candles(folder, pair, "1h")]


@pytest.fixture
def freqtrade(tmp_path):
    """A folder of freqtrade: spot above, the three files of a contract below."""
    (tmp_path / "ETH_USDT-1h.feather").write_bytes(b"spot")
    (tmp_path / "futures").mkdir()
    for kind in ("futures", "mark", "funding_rate"):
        name = f"ETH_USDT_USDT-1h-{kind}.feather"
        (tmp_path / "futures" / name).write_bytes(b"contract")
    return tmp_path


def test_candles_of_a_contract_are_those_of_its_trades(freqtrade):
    config = Config(pair="ETH/USDT:USDT")
    assert config.pair == "ETH_USDT_USDT"
    assert found(freqtrade, config.pair) == ["ETH_USDT_USDT-1h-futures.feather"]
    assert found(freqtrade, Config(pair="ETH/USDT").pair) == ["ETH_USDT-1h.feather"]


def test_a_contract_is_found_by_the_name_that_an_archive_gives_it(tmp_path):
    (tmp_path / "ETHUSDT-1h-2024-01.zip").write_bytes(b"")
    assert found(tmp_path, "ETH_USDT_USDT") == ["ETHUSDT-1h-2024-01.zip"]


@pytest.mark.parametrize("kind", ["mark", "funding_rate", "premiumIndex", "index"])
def test_what_is_no_trade_is_not_taken_as_candles(tmp_path, kind):
    path = tmp_path / f"ETH_USDT_USDT-1h-{kind}.feather"
    path.write_bytes(b"")
    assert stated_contents(path.name) == kind.lower()
    with pytest.raises(MissingInputError, match="in .*nope.* Received: no such folder"):
        find_candles(tmp_path / "nope", "ETHUSDT", "1h")
    with pytest.raises(MissingInputError, match=f"1 other file: {path.name}"):
        find_candles(tmp_path, "ETH_USDT_USDT", "1h")
    with pytest.raises(DataError, match=f"expected candles of trades.*{kind.lower()}"):
        read_candles(path)


def test_check_refuses_what_is_no_trade(tmp_path, capsys):
    path = tmp_path / "ETH_USDT_USDT-1h-mark.csv"
    synthetic_candles(3, timeframe="1h").to_csv(path, index=False)
    assert main(["check", str(path)]) == 65
    assert "problem: it is named after mark: no trades" in capsys.readouterr().out


def test_a_contract_is_the_pair_with_and_without_what_settles_it():
    assert is_pair_of("ETHUSDT", "ETH_USDT_USDT")
    assert is_pair_of("ETH/USDT:USDT", "ETHUSDT")
    assert not is_pair_of("ETHUSDT", "ETH_USDC_USDC")
    assert not is_pair_of("ETHBTC", "ETH_USDT_BTC")


def test_a_contract_is_downloaded_from_futures(tmp_path):
    with pytest.raises(ConfigError, match="market: expected futures for ETH/USDT:USDT"):
        download_archives("ETH/USDT:USDT", "1h", [], output_dir=tmp_path)
