"""`freqtrade` with its own arguments, without an exchange to ask.

The table of markets is made here; whatever would leave this machine is refused.
"""

import socket
import sys

from freqtrade.exchange import Exchange
from freqtrade.main import main


def market(base, *, is_future):
    symbol = f"{base}/USDT:USDT" if is_future else f"{base}/USDT"
    kind = "swap" if is_future else "spot"
    flags = dict.fromkeys(("margin", "future", "option", "inverse"), False)
    limits = {"amount": 1e-8, "price": 0.01, "cost": 1.0}
    return flags | {
        "id": f"{base}USDT",
        "symbol": symbol,
        "base": base,
        "quote": "USDT",
        "settle": "USDT" if is_future else None,
        "type": kind,
        "spot": not is_future,
        "swap": is_future,
        "contract": is_future,
        "linear": is_future,
        "contractSize": 1.0 if is_future else None,
        "active": True,
        "maker": 0.001,
        "taker": 0.001,
        "precision": {"amount": 1e-8, "price": 0.01},
        "limits": {
            "leverage": {"min": 1.0, "max": 20.0},
            **{name: {"min": least, "max": 1e9} for name, least in limits.items()},
        },
        "info": {},
    }


async def local_markets(self, reload=False):
    is_future = self.trading_mode == "futures"
    names = ("BTC", "ETH", "USDT")
    self._api_async.set_markets(
        [market(base, is_future=is_future) for base in names[:2]],
        {name: {"id": name, "code": name, "precision": 1e-8} for name in names},
    )


def refuse(*arguments):
    raise OSError(f"the test is offline. Received: connect{arguments}")


Exchange._api_reload_markets = local_markets
socket.socket.connect = socket.socket.connect_ex = refuse
main(sys.argv[1:])
