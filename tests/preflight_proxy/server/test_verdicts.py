"""Hostile and odd requests, and the verdict on each: bytes written by hand, on both event loops.

A verdict is what comes back before and for the request that follows in the same write: the answers, by what the handler saw, or
their status, and the end of the connection. All were recorded from the server that we had before this one, aiohttp's, but for
those of `STRICTER`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import ServerRequest
from tests.support.raw_http import Raw

pytestmark = pytest.mark.wire

H = b"Host: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
END = b"3\r\nabc\r\n0\r\n\r\n"
OFFER = b"Connection: Upgrade", b"Upgrade: h2c"
WEBSOCKET = b"Connection: Upgrade", b"Upgrade: websocket"
NEXT = b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def get(*lines: bytes, start: bytes = b"GET /1 HTTP/1.1", host: bytes = H) -> bytes:
    return start + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"", start: bytes = b"POST /1 HTTP/1.1") -> bytes:
    return get(*lines, start=start) + body


CASES: dict[str, tuple[bytes, str]] = {
    # lines and start lines
    "plain": (get(), "GET /1 0; GET /2 0"),
    "bare LF everywhere": (b"GET /1 HTTP/1.1\nHost: x\n\n", "400; end"),
    "bare LF after a field": (b"GET /1 HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "400; end"),
    "bare LF after the start line": (b"GET /1 HTTP/1.1\nHost: x\r\n\r\n", "400; end"),
    "bare LF at the end of the head": (b"GET /1 HTTP/1.1\r\nHost: x\r\n\n", "400; end"),
    "bare CR in a value": (get(b"A: b\rc"), "400; end"),
    "bare CR after a field": (b"GET /1 HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", "400; end"),
    "empty lines before": (b"\r\n\r\n" + get(), "GET /1 0; GET /2 0"),
    "LF before": (b"\n" + get(), "GET /1 0; GET /2 0"),
    "space before": (b" " + get(), "400; end"),
    "two spaces after the method": (get(start=b"GET  /1 HTTP/1.1"), "GET /1 0; GET /2 0"),
    "two spaces before the version": (get(start=b"GET /1  HTTP/1.1"), "GET /1 0; GET /2 0"),
    "tab after the method": (get(start=b"GET\t/1 HTTP/1.1"), "400; end"),
    "space in the target": (get(start=b"GET /1 /2 HTTP/1.1"), "400; end"),
    "tab in the target": (get(start=b"GET /1\t HTTP/1.1"), "400; end"),
    "nul in the target": (get(start=b"GET /1\x00 HTTP/1.1"), "400; end"),
    "control in the target": (get(start=b"GET /1\x01 HTTP/1.1"), "400; end"),
    "delete in the target": (get(start=b"GET /1\x7f HTTP/1.1"), "400; end"),
    "bytes in the target": (get(start=b"GET /\xff HTTP/1.1"), "400; end"),
    "utf-8 in the target": (get(start="GET /é HTTP/1.1".encode()), "400; end"),
    "fragment in the target": (get(start=b"GET /1#a HTTP/1.1"), "GET /1#a 0; GET /2 0"),
    "two question marks": (get(start=b"GET /1?a?b HTTP/1.1"), "GET /1?a?b 0; GET /2 0"),
    "quotes in the target": (get(start=b'GET /1"<>|^`{} HTTP/1.1'), 'GET /1"<>|^`{} 0; GET /2 0'),
    "backslash in the target": (get(start=b"GET /1\\2 HTTP/1.1"), "GET /1\\2 0; GET /2 0"),
    "empty target": (get(start=b"GET  HTTP/1.1"), "400; end"),
    "target without a slash": (get(start=b"GET 1 HTTP/1.1"), "400; end"),
    "question mark as target": (get(start=b"GET ?a HTTP/1.1"), "400; end"),
    "asterisk": (get(start=b"GET * HTTP/1.1"), "400; end"),
    "asterisk for OPTIONS": (get(start=b"OPTIONS * HTTP/1.1"), "OPTIONS * 0; GET /2 0"),
    "asterisk and more": (get(start=b"OPTIONS *1 HTTP/1.1"), "400; end"),
    "absolute target": (get(start=b"GET http://a/1 HTTP/1.1"), "GET http://a/1 0; GET /2 0"),
    "absolute target in TLS": (get(start=b"GET https://a:443/1 HTTP/1.1"), "GET https://a:443/1 0; GET /2 0"),
    "absolute target without a path": (get(start=b"GET http://a HTTP/1.1"), "GET http://a 0; GET /2 0"),
    "absolute target without a host": (get(start=b"GET http:///1 HTTP/1.1"), "400; end"),
    "absolute target of a scheme alone": (get(start=b"GET http:1 HTTP/1.1"), "400; end"),
    "absolute target with a user": (get(start=b"GET http://u:p@a/1 HTTP/1.1"), "GET http://u:p@a/1 0; GET /2 0"),
    "absolute target with two users": (get(start=b"GET http://u@b@a/1 HTTP/1.1"), "GET http://u@b@a/1 0; GET /2 0"),
    "absolute target with a bad port": (get(start=b"GET http://a:bad/1 HTTP/1.1"), "400; end"),
    "absolute target with a port too large": (get(start=b"GET http://a:99999/1 HTTP/1.1"), "400; end"),
    "absolute target with an open bracket": (get(start=b"GET http://[a/1 HTTP/1.1"), "400; end"),
    "absolute target of another scheme": (get(start=b"GET ftp://a/1 HTTP/1.1"), "GET ftp://a/1 0; GET /2 0"),
    "absolute target with a query": (get(start=b"GET http://a?b HTTP/1.1"), "GET http://a?b 0; GET /2 0"),
    "authority as target": (get(start=b"GET a:443 HTTP/1.1"), "400; end"),
    "connect": (get(start=b"CONNECT a:443 HTTP/1.1"), "CONNECT a:443 0; end"),
    "connect to a path": (get(start=b"CONNECT /1 HTTP/1.1"), "CONNECT /1 0; end"),
    "connect without a port": (get(start=b"CONNECT a HTTP/1.1"), "CONNECT a 0; end"),
    "connect with a length": (
        post(b"Content-Length: 3", body=b"abc", start=b"CONNECT a:443 HTTP/1.1"),
        "CONNECT a:443 0; end",
    ),
    "double slash": (get(start=b"GET //a/1 HTTP/1.1"), "GET //a/1 0; GET /2 0"),
    # methods and versions
    "lower-case method": (get(start=b"get /1 HTTP/1.1"), "400; end"),
    "unknown method": (get(start=b"FETCH /1 HTTP/1.1"), "400; end"),
    "method of a symbol": (get(start=b"G@T /1 HTTP/1.1"), "400; end"),
    "no method": (get(start=b"/1 HTTP/1.1"), "400; end"),
    "rare method": (get(start=b"PROPFIND /1 HTTP/1.1"), "PROPFIND /1 0; GET /2 0"),
    "m-search": (get(start=b"M-SEARCH /1 HTTP/1.1"), "M-SEARCH /1 0; GET /2 0"),
    "trace": (get(start=b"TRACE /1 HTTP/1.1"), "TRACE /1 0; GET /2 0"),
    "query": (get(start=b"QUERY /1 HTTP/1.1"), "QUERY /1 0; GET /2 0"),
    "pri": (get(start=b"PRI /1 HTTP/1.1"), "400; end"),
    "source": (get(start=b"SOURCE /1 HTTP/1.1"), "SOURCE /1 0; GET /2 0"),
    "describe": (get(start=b"DESCRIBE /1 HTTP/1.1"), "400; end"),
    "version 1.0": (get(start=b"GET /1 HTTP/1.0"), "400; end"),
    "version 1.0 that stays": (get(b"Connection: keep-alive", start=b"GET /1 HTTP/1.0"), "GET /1 0; GET /2 0"),
    "version 1.0 without host": (get(start=b"GET /1 HTTP/1.0", host=b""), "400; end"),
    "version 1.0 with chunks": (post(CHUNKED, body=END, start=b"POST /1 HTTP/1.0"), "400; end"),
    "version 1.2": (get(start=b"GET /1 HTTP/1.2"), "400; end"),
    "version 0.9": (get(start=b"GET /1 HTTP/0.9"), "400; end"),
    "version 2.0": (get(start=b"GET /1 HTTP/2.0"), "400; end"),
    "version 3.0": (get(start=b"GET /1 HTTP/3.0"), "400; end"),
    "version 1": (get(start=b"GET /1 HTTP/1"), "400; end"),
    "version 1.10": (get(start=b"GET /1 HTTP/1.10"), "400; end"),
    "version 01.1": (get(start=b"GET /1 HTTP/01.1"), "400; end"),
    "lower-case version": (get(start=b"GET /1 http/1.1"), "400; end"),
    "rtsp": (get(start=b"GET /1 RTSP/1.1"), "GET /1 0; GET /2 0"),
    "describe by rtsp": (get(start=b"DESCRIBE /1 RTSP/1.1"), "DESCRIBE /1 0; GET /2 0"),
    "source by ice": (get(start=b"SOURCE /1 ICE/1.1"), "SOURCE /1 0; GET /2 0"),
    "no version": (get(start=b"GET /1"), "400; end"),
    "no version nor fields": (b"GET /1\r\n\r\n", "400; end"),
    "space after the version": (get(start=b"GET /1 HTTP/1.1 "), "400; end"),
    # fields
    "no host": (get(host=b""), "400; end"),
    "empty host": (get(host=b"Host:\r\n"), "GET /1 0; GET /2 0"),
    "host twice": (get(b"Host: x"), "400; end"),
    "another host besides": (get(b"Host: y"), "400; end"),
    "host with a path": (get(host=b"Host: x/y\r\n"), "GET /1 0; GET /2 0"),
    "host list": (get(host=b"Host: x, y\r\n"), "GET /1 0; GET /2 0"),
    "space before the colon": (get(b"A : b"), "400; end"),
    "tab before the colon": (get(b"A\t: b"), "400; end"),
    "no colon": (get(b"A"), "400; end"),
    "no name": (get(b": b"), "400; end"),
    "space in a name": (get(b"A B: c"), "400; end"),
    "first field begins with a space": (b"GET /1 HTTP/1.1\r\n Host: x\r\n\r\n", "400; end"),
    "folded by a space": (get(b"A: b\r\n c"), "400; end"),
    "folded by a tab": (get(b"A: b\r\n\tc"), "400; end"),
    "folded host": (get(host=b"Host:\r\n x\r\n"), "400; end"),
    "folded length": (post(b"Content-Length:\r\n 3", body=b"abc"), "400; end"),
    "folded encoding": (post(b"Transfer-Encoding:\r\n chunked", body=END), "400; end"),
    "nul in a name": (get(b"A\x00B: c"), "400; end"),
    "nul in a value": (get(b"A: b\x00c"), "400; end"),
    "control in a value": (get(b"A: b\x01c"), "400; end"),
    "bell in a value": (get(b"A: b\x07c"), "400; end"),
    "escape in a value": (get(b"A: \x1b[31m"), "400; end"),
    "vertical tab in a value": (get(b"A: b\x0bc"), "400; end"),
    "form feed in a value": (get(b"A: b\x0cc"), "400; end"),
    "delete in a value": (get(b"A: b\x7fc"), "400; end"),
    "tab in a value": (get(b"A: b\tc"), "GET /1 0; GET /2 0"),
    "bytes in a value": (get(b"A: \x80\xff"), "GET /1 0; GET /2 0"),
    "bytes in a name": (get(b"\xc3\xa9: b"), "400; end"),
    "delimiter in a name": (get(b"A(b): c"), "400; end"),
    "quote in a name": (get(b'A"b: c'), "400; end"),
    "underscore in a name": (get(b"Content_Length: 5"), "GET /1 0; GET /2 0"),
    "empty value": (get(b"A:"), "GET /1 0; GET /2 0"),
    "value of spaces": (get(b"A:   "), "GET /1 0; GET /2 0"),
    "many fields": (get(*[b"A: b"] * 127), "GET /1 0; GET /2 0"),
    "one field too many": (get(*[b"A: b"] * 128), "400; end"),
    "long value": (get(b"A: " + b"a" * 32_000), "GET /1 0; GET /2 0"),
    "value too long": (get(b"A: " + b"a" * 32_769), "400; end"),
    "name too long": (get(b"a" * 32_769 + b": b"), "400; end"),
    "name and value too long": (get(b"a" * 20_000 + b": " + b"b" * 13_000), "400; end"),
    "long target": (get(start=b"GET /" + b"a" * 32_000 + b" HTTP/1.1"), "GET /aaaaaaaaa... 0; GET /2 0"),
    "target too long": (get(start=b"GET /" + b"a" * 32_768 + b" HTTP/1.1"), "400; end"),
    "type twice": (get(b"Content-Type: a/b", b"Content-Type: a/b"), "400; end"),
    "user agent twice": (get(b"User-Agent: a", b"User-Agent: a"), "400; end"),
    "etag twice": (get(b"ETag: a", b"ETag: a"), "400; end"),
    "server twice": (get(b"Server: a", b"Server: a"), "400; end"),
    "location twice": (get(b"Content-Location: a", b"content-location: a"), "400; end"),
    "range twice": (get(b"Content-Range: a", b"content-range: a"), "400; end"),
    "max-forwards twice": (get(b"Max-Forwards: 1", b"Max-Forwards: 1"), "400; end"),
    "accept twice": (get(b"Accept: a", b"Accept: b"), "GET /1 0; GET /2 0"),
    "cookie twice": (get(b"Cookie: a", b"Cookie: b"), "GET /1 0; GET /2 0"),
    "connection twice": (get(b"Connection: keep-alive", b"Connection: close"), "400; end"),
    "old websocket key": (get(b"Sec-WebSocket-Key1: a"), "400; end"),
    "close": (get(b"Connection: close"), "400; end"),
    "close among others": (get(b"Connection: a, close, b"), "400; end"),
    "proxy connection": (get(b"Proxy-Connection: close"), "400; end"),
    # lengths
    "length": (post(b"Content-Length: 3", body=b"abc"), "POST /1 3; GET /2 0"),
    "length of a get": (get(b"Content-Length: 3") + b"abc", "GET /1 3; GET /2 0"),
    "length zero": (post(b"Content-Length: 0"), "POST /1 0; GET /2 0"),
    "zeros before a length": (post(b"Content-Length: 003", body=b"abc"), "POST /1 3; GET /2 0"),
    "length twice": (post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), "400; end"),
    "two lengths": (post(b"Content-Length: 3", b"Content-Length: 37", body=b"abc" + SMUGGLED), "400; end"),
    "two lengths in one field": (post(b"Content-Length: 3, 3", body=b"abc"), "400; end"),
    "length with a plus": (post(b"Content-Length: +3", body=b"abc"), "400; end"),
    "length with a minus": (post(b"Content-Length: -3", body=b"abc"), "400; end"),
    "length with an underscore": (post(b"Content-Length: 0_3", body=b"abc"), "400; end"),
    "hex length": (post(b"Content-Length: 0x3", body=b"abc"), "400; end"),
    "length with a fraction": (post(b"Content-Length: 3.0", body=b"abc"), "400; end"),
    "length with a space inside": (post(b"Content-Length: 3 3", body=b"abc"), "400; end"),
    "length with a space after": (post(b"Content-Length: 3 ", body=b"abc"), "POST /1 3; GET /2 0"),
    "length with a tab before": (post(b"Content-Length:\t3", body=b"abc"), "POST /1 3; GET /2 0"),
    "length with a nul": (post(b"Content-Length: 3\x00", body=b"abc"), "400; end"),
    "length in other digits": (post("Content-Length: ３".encode(), body=b"abc"), "400; end"),
    "empty length": (post(b"Content-Length:", body=b"abc"), "400; end"),
    "length of 2**64": (post(b"Content-Length: 18446744073709551616", body=b"abc"), "400; end"),
    "length of 2**64 and 3": (post(b"Content-Length: 18446744073709551619", body=b"abc"), "400; end"),
    # chunks
    "chunks": (post(CHUNKED, body=END), "POST /1 3; GET /2 0"),
    "chunks of a get": (get(CHUNKED) + END, "GET /1 3; GET /2 0"),
    "chunks in capitals": (post(b"transfer-encoding: CHUNKED", body=END), "POST /1 3; GET /2 0"),
    "chunks and a length": (post(CHUNKED, b"Content-Length: 3", body=END + SMUGGLED), "400; end"),
    "a length and chunks": (post(b"Content-Length: 3", CHUNKED, body=END + SMUGGLED), "400; end"),
    "chunks in two fields": (post(CHUNKED, CHUNKED, body=END), "400; end"),
    "gzip and chunks in two fields": (post(b"Transfer-Encoding: gzip", CHUNKED, body=END), "400; end"),
    "gzip before chunks": (post(b"Transfer-Encoding: gzip, chunked", body=END), "POST /1 3; GET /2 0"),
    "gzip after chunks": (post(b"Transfer-Encoding: chunked, gzip", body=END), "400; end"),
    "chunks twice": (post(b"Transfer-Encoding: chunked, chunked", body=END), "400; end"),
    "identity": (post(b"Transfer-Encoding: identity", body=END), "400; end"),
    "identity and a length": (post(b"Transfer-Encoding: identity", b"Content-Length: 3", body=b"abc"), "400; end"),
    "no chunks": (post(b"Transfer-Encoding: xchunked", body=END), "400; end"),
    "chunks and a letter": (post(b"Transfer-Encoding: chunkedx", body=END), "400; end"),
    "quoted chunks": (post(b'Transfer-Encoding: "chunked"', body=END), "400; end"),
    "chunks with a parameter": (post(b"Transfer-Encoding: chunked;a=b", body=END), "400; end"),
    "chunks with a comma before": (post(b"Transfer-Encoding: ,chunked", body=END), "POST /1 3; GET /2 0"),
    "chunks with a comma after": (post(b"Transfer-Encoding: chunked,", body=END), "400; end"),
    "chunks with a space after": (post(b"Transfer-Encoding: chunked ", body=END), "POST /1 3; GET /2 0"),
    "chunks with a tab before": (post(b"Transfer-Encoding:\tchunked", body=END), "POST /1 3; GET /2 0"),
    "chunks with a vertical tab before": (post(b"Transfer-Encoding: \x0bchunked", body=END), "400; end"),
    "chunks after a bare LF": (post(b"A: b\nTransfer-Encoding: chunked", body=END), "400; end"),
    "chunks with a space before the colon": (post(b"Transfer-Encoding : chunked", body=END), "400; end"),
    "empty encoding": (post(b"Transfer-Encoding:", body=b""), "400; end"),
    "empty encoding and a length": (post(b"Transfer-Encoding:", b"Content-Length: 3", body=b"abc"), "400; end"),
    "a space in the encoding": (post(b"Transfer-Encoding: chun ked", body=END), "400; end"),
    "chunk size in capitals": (post(CHUNKED, body=b"A\r\n0123456789\r\n0\r\n\r\n"), "POST /1 10; GET /2 0"),
    "zeros before a chunk size": (post(CHUNKED, body=b"0003\r\nabc\r\n0\r\n\r\n"), "POST /1 3; GET /2 0"),
    "zeros as the last chunk": (post(CHUNKED, body=b"3\r\nabc\r\n000\r\n\r\n"), "POST /1 3; GET /2 0"),
    "chunk size 0x": (post(CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk size with a plus": (post(CHUNKED, body=b"+3\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk size with a minus": (post(CHUNKED, body=b"-3\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk size with an underscore": (post(CHUNKED, body=b"0_3\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk size with a space before": (post(CHUNKED, body=b" 3\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk size with a space after": (post(CHUNKED, body=b"3 \r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk size with a tab after": (post(CHUNKED, body=b"3\t\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "empty chunk size": (post(CHUNKED, body=b"\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk size too large": (post(CHUNKED, body=b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk with a bare LF": (post(CHUNKED, body=b"3\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk with a bare LF after": (post(CHUNKED, body=b"3\r\nabc\n0\r\n\r\n"), "400; end"),
    "chunk with a bare CR": (post(CHUNKED, body=b"3\rabc\r\n0\r\n\r\n"), "400; end"),
    "chunk longer than its size": (post(CHUNKED, body=b"3\r\nabcd\r\n0\r\n\r\n"), "400; end"),
    "chunk without its end": (post(CHUNKED, body=b"3\r\nabc0\r\n\r\n"), "400; end"),
    "chunk with an extension": (post(CHUNKED, body=b"3;a=b\r\nabc\r\n0\r\n\r\n"), "POST /1 3; GET /2 0"),
    "chunk with a quoted extension": (post(CHUNKED, body=b'3;a="b;c"\r\nabc\r\n0\r\n\r\n'), "POST /1 3; GET /2 0"),
    "chunk with an open quote": (post(CHUNKED, body=b'3;a="b\r\nabc\r\n0\r\n\r\n'), "400; end"),
    "chunk with an LF in its extension": (post(CHUNKED, body=b"3;a\nb\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk with a CR in its extension": (post(CHUNKED, body=b"3;a\rb\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk with a nul in its extension": (post(CHUNKED, body=b"3;a\x00b\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk with a bare semicolon": (post(CHUNKED, body=b"3;\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "chunk with a space before the extension": (post(CHUNKED, body=b"3 ;a=b\r\nabc\r\n0\r\n\r\n"), "400; end"),
    "last chunk with a bare LF": (post(CHUNKED, body=b"3\r\nabc\r\n0\n\n"), "400; end"),
    "last chunk with an LF at the end": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\n\n"), "400; end"),
    "trailers": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"), "POST /1 3; GET /2 0"),
    "trailer of a length": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n"), "400; end"),
    "trailer of an encoding": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"), "400; end"),
    "trailer of a host": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nHost: y\r\n\r\n"), "400; end"),
    "trailer that is folded": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n"), "400; end"),
    "trailer without a colon": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nA\r\n\r\n"), "400; end"),
    "trailer with a nul": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nA: \x00\r\n\r\n"), "400; end"),
    "trailers by the hundred": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\n" + b"A: b\r\n" * 200 + b"\r\n"), "400; end"),
    # offers
    "offer of h2c": (get(*OFFER), "GET /1 0; end"),
    "offer of h2c with a length": (post(*OFFER, b"Content-Length: 3", body=b"abc"), "POST /1 3; end"),
    "offer of h2c with chunks": (post(*OFFER, CHUNKED, body=END), "POST /1 3; end"),
    "offer of h2c with chunks and a length": (post(*OFFER, CHUNKED, b"Content-Length: 3", body=END), "400; end"),
    "offer of h2c with two lengths": (
        post(*OFFER, b"Content-Length: 3", b"Content-Length: 4", body=b"abc"),
        "400; end",
    ),
    "offer of h2c with gzip": (post(*OFFER, b"Transfer-Encoding: gzip", body=b"abc"), "400; end"),
    "offer of h2c with chunks that are none": (post(*OFFER, CHUNKED, body=b"zz\r\n"), "400; end"),
    "offer of h2c that Connection does not name": (
        post(b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"),
        "POST /1 3; end",
    ),
    "offer of a websocket": (get(*WEBSOCKET), "GET /1 0; end"),
    "offer of a websocket with a length": (post(*WEBSOCKET, b"Content-Length: 3", body=b"abc"), "POST /1 3; end"),
    "offer of tcp": (get(b"Connection: Upgrade", b"Upgrade: tcp"), "GET /1 0; end"),
    "empty offer": (get(b"Connection: Upgrade", b"Upgrade:"), "GET /1 0; end"),
    "offer by version 1.0": (get(*OFFER, start=b"GET /1 HTTP/1.0"), "GET /1 0; end"),
    # several
    "good and good": (get() + get(start=b"GET /3 HTTP/1.1"), "GET /1 0; GET /3 0; GET /2 0"),
    "good and malformed": (get() + b"GET /3 HTTP/1.1\r\nHost : x\r\n\r\n", "400; end"),
    "good with a body and malformed": (post(b"Content-Length: 3", body=b"abc") + b"nonsense\r\n\r\n", "400; end"),
    "empty lines between": (get() + b"\r\n\r\n", "GET /1 0; GET /2 0"),
    "space between": (get() + b" ", "400; end"),
    "nonsense": (b"nonsense\r\n\r\n", "400; end"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400; end"),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400; end"),
    "an answer": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "400; end"),
}

STRICTER = frozenset(
    {"connect", "connect to a path", "connect without a port", "connect with a length"}
    | {"empty encoding", "empty encoding and a length", "offer of h2c with gzip"}
)
"""What aiohttp took and we do not: a request behind a tunnel that nobody opens, and encodings of a body that are none."""

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


async def handle(request: ServerRequest) -> None:
    """Answer with what was asked: method, target, and the size of the body."""
    body = b""
    while piece := await request.read_piece():
        body += piece
    target = request.target if len(request.target) <= 40 else request.target[:10] + "..."
    request.response.answer(200, [], f"{request.method} {target} {len(body)}".encode("utf-8", "surrogateescape"))


async def answers(agent: Raw, count: int) -> list[str]:
    """So many answers, and the end of the connection if there are fewer."""
    told: list[str] = []
    try:
        while len(told) < count:
            status, headers, body = await agent.answer()
            if status != 200:
                assert (headers["content-type"], headers["connection"]) == ("application/json", "close")
                assert json.loads(body)["error"]["code"] == status
            told.append(body.decode() if status == 200 else str(status))
    except (asyncio.IncompleteReadError, ConnectionError) as exc:
        told.append("torn" if getattr(exc, "partial", b"") else "end")
    return told


@on_both_loops
def test_each_request_gets_its_verdict_and_nothing_hides_behind_it(run: Run) -> None:
    async def scene() -> None:
        listeners = Listeners(head_s_max=60.0)
        _, port = await listeners.on_tcp(handle, "127.0.0.1", 0)

        async def verdict(sent: bytes, count: int) -> str:
            async with await Raw.to(port) as agent:
                agent.send(sent + NEXT)
                return "; ".join(await answers(agent, count))

        async with asyncio.timeout(60):
            told = {name: await verdict(sent, due.count(";") + 1) for name, (sent, due) in CASES.items()}
        await listeners.close()
        assert told == {name: due for name, (_, due) in CASES.items()}

    run(scene())


@on_both_loops
def test_bytes_that_come_one_by_one_are_no_other_request(run: Run) -> None:
    """What is refused may be so a little later, and what came before it whole is then served first."""

    async def scene() -> None:
        listeners, seen = Listeners(head_s_max=60.0), list[str]()

        async def note(request: ServerRequest) -> None:
            seen.append(f"{request.method} {request.target}")
            await handle(request)

        _, port = await listeners.on_tcp(note, "127.0.0.1", 0)
        async with asyncio.timeout(60):
            for name, (sent, due) in CASES.items():
                seen.clear()
                if len(sent) > 500:
                    continue
                async with await Raw.to(port) as agent:
                    with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop's, once it is closed
                        for byte in sent:
                            agent.send(bytes([byte]))
                            await asyncio.sleep(0)
                        agent.send(NEXT)
                    await answers(agent, due.count(";") + 1)
                assert "GET /smuggled" not in seen, name
                if due.endswith("end"):
                    assert "GET /2" not in seen, name
        await listeners.close()

    run(scene())
