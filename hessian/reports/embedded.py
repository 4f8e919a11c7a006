"""The JSON of a result inside its page: put in so that nothing in it can end the element, and taken out again."""

from __future__ import annotations

START = '<script type="application/json" id="lrfinder-result">'  # data for a browser, which runs nothing of it
END = "</script>"
MARK = b"\xef\xbb\xbf"  # of byte order, as editors write it
ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}  # they occur within JSON strings only, where this means the same


def embed(data: str) -> str:
    """The element that holds JSON text."""
    return f"{START}\n{data.translate(ESCAPES)}\n{END}"


def extract(content: bytes) -> bytes:
    """The JSON in a page; other content as it is.

    Raises:
        ValueError: If it is a page that holds no result, or more than one.
    """
    if content.removeprefix(MARK).lstrip()[:9].lower() != b"<!doctype":
        return content
    _, found, rest = content.partition(START.encode())
    data, ended, after = rest.partition(END.encode())
    if not found or not ended or START.encode() in after:
        raise ValueError("it is a page that does not hold one result")
    return data
