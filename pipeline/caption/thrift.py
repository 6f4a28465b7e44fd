"""Values of Thrift's compact protocol, in which Parquet describes itself (thrift-compact-protocol.md)."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, BINARY, LIST, STRUCT = (4, 5, 6), 8, 9, 12
"""Kinds of fields, of those that are read here."""
_DEEPEST = 64


class Reader:
    """Reads on from a place; IndexError where the bytes end or make no sense."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def fields(self) -> Iterator[tuple[int, int]]:
        """(number, kind) of a structure's fields; the caller takes or skips each value."""
        number = 0
        while (head := self.byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            yield number, head & 15

    def items(self) -> Iterator[int]:
        """The kind of each item of a list; the caller takes or skips each value."""
        head = self.byte()
        for _ in range(self.varint() if head >> 4 == 15 else head >> 4):
            yield head & 15

    def binary(self) -> bytes:
        """Bytes with their length before them."""
        size = self.varint()
        value = self.data[self.at : self.at + size]
        self.at += size
        if len(value) < size:
            raise IndexError
        return value

    def byte(self) -> int:
        """One byte."""
        value = self.data[self.at]
        self.at += 1
        return value

    def varint(self) -> int:
        """A number without a sign."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 70:
                raise IndexError

    def zigzag(self) -> int:
        """A number with a sign."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int, deep: int = 0) -> None:
        """Pass over a field's value; a boolean's is in its kind."""
        if deep > _DEEPEST:
            raise IndexError
        if kind in VARINT:
            self.varint()
        elif kind in (3, 7, BINARY):
            size = {3: 1, 7: 8}.get(kind) or self.varint()
            self.at += size
            if self.at > len(self.data):
                raise IndexError
        elif kind in (LIST, 10):
            for item in self.items():
                # In a list a boolean has a byte.
                self.skip(3 if item in (1, 2) else item, deep + 1)
        elif kind == STRUCT:
            for _, field in self.fields():
                self.skip(field, deep + 1)
        elif kind not in (1, 2):
            raise IndexError
