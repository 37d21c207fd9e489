from reports import text


def test_columns_stand_below_each_other():
    rows = [["", "skill", "folds"], ["forest", "+0.1", "-"], ["lstm", "-0.123"]]
    assert text.format_table(rows) == [
        "           skill  folds",
        "  forest    +0.1      -",
        "  lstm    -0.123",
    ]
    assert text.format_table(rows, left=3, indent=0) == [
        "        skill   folds",
        "forest  +0.1    -",
        "lstm    -0.123",
    ]
    assert text.format_table([["a", "1"]], width=4) == ["  a     1"]
    assert text.format_table([]) == []


def test_numbers_are_found_by_key_and_a_dash_stands_for_none():
    tree = {"trading": {"num_trades": 1200}, "folds": [0.5]}
    columns = {"trades": ("trading.num_trades", "{:,}"), "first": ("folds.0", "{:.2f}")}
    assert text.number_table([("this", tree), ("none", {})], columns) == [
        "        trades  first",
        "  this   1,200   0.50",
        "  none       -      -",
    ]


def test_spread_over_folds():
    assert text.spread({"mean": 0.0312, "std": 0.0121}) == "+0.031 ± 0.012"
    assert text.spread({"mean": -0.5, "std": None}, "{:.1f}") == "-0.5"
    assert text.spread(None) == text.spread({"mean": None, "std": None}) == "-"
