"""Kinds of files, told by their first bytes."""

import os

from files.kinds import scan


def test_scan_tells_kinds_without_opening(tmp_path):
    contents = {
        "a.bin": b"\x80\x04\x95",
        "b.pkl": b"(lp0\n.",
        "c.pt": b"PK\x03\x04rest",
        "d.keras": b"PK\x03\x04rest",
        "e.json": b"{}",
        "f.npy": b"\x93NUMPY\x01",
        "g": b"",
        "h.txt": b"words",
        "i.h5": b"\x89HDF\r\n\x1a\n",
        "j": b"\x00\x01",
        "l.dat": b"PK\x03\x04" + bytes(22) + b"\x10\0\0\0archive/data.pkl",
        "m.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False}",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "k").symlink_to("/etc/passwd")
    (tmp_path / "n").symlink_to("/etc")
    os.mkfifo(tmp_path / "o.pkl")
    kinds = {each["name"]: each["kind"] for each in scan(tmp_path)}
    assert kinds == {
        "a.bin": "pickle",
        "b.pkl": "pickle by name",
        "c.pt": "torch zip",
        "d.keras": "zip",
        "e.json": "json",
        "f.npy": "npy",
        "g": "text",
        "h.txt": "text",
        "i.h5": "hdf5",
        "j": "other",
        "k": "link",
        "l.dat": "torch zip",
        "m.npy": "npy of objects",
        "n": "link",
        "o.pkl": "pipe or device",
    }
