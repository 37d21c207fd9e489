"""Reads a report's page: its numbers with their places, its sections, its text."""

import html.parser
import json


class PageReader(html.parser.HTMLParser):
    """Collects what a test asks about: numbers and their places, sections, text."""

    def __init__(self, page):
        super().__init__()
        self.numbers, self.sections, self.attributes, self.tags = [], [], [], []
        self.cells, self.places, self.text = [], {}, ""
        self._number, self._cell, self._words = None, None, None
        self._caption, self._head, self._row, self._column = "", [], "", 0
        self._is_head = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "section":
            self.sections.append(given["id"])
        elif tag in ("h3", "summary", "th"):
            self._words = ""
        elif tag == "thead":
            self._is_head = True
        elif tag == "tr":
            self._column = 0
            self._head = [] if self._is_head else self._head
        elif tag == "td":
            self._cell, self._column = "", self._column + 1
        elif tag == "data":
            self._number = [given["data-key"], json.loads(given["data-value"]), ""]
            if self._cell is not None:
                column = self._head[self._column] if self._head else ""
                place = (self._caption, self._row, column)
                self.places.setdefault(place, given["data-key"])

    def handle_data(self, data):
        self.text += data
        if self._number is not None:
            self._number[2] += data
        elif self._words is not None:
            self._words += data
        elif self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag):
        if tag == "data":
            self.numbers.append(self._number)
            self._number = None
        elif tag == "td":
            self.cells.append(self._cell)
            self._cell = None
        elif tag in ("h3", "summary"):
            self._caption, self._words, self._head = self._words, None, []
        elif tag == "thead":
            self._is_head = False
        elif tag == "th" and self._is_head:
            self._head.append(self._words)
            self._words = None
        elif tag == "th":
            self._row, self._words = self._words, None


def exact(tree, key):
    """What a key leads to; None where it leads nowhere."""
    for name in key.split("."):
        if isinstance(tree, list) and int(name) < len(tree):
            tree = tree[int(name)]
        else:
            tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
