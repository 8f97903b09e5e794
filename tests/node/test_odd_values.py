"""Configs on which parsers of JSON are known to disagree: both workers take, or refuse, and read them alike."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

from config_daemon.wire.sealing import canonical
from tests.node.twins import PythonTwin, deliver, live, node_outcomes
from tests.worker.updates import TOPIC, members, sealed_body

MOST = (1 << 53) - 1
GOOD = [
    b"{}",
    b'{"a":1e21,"b":1E+21,"c":1e-7,"d":123456789012345680000.0}',
    b'{"a":-0.0,"b":0.0,"c":-0,"d":0}',
    b'{"a":5e-324,"b":2.2250738585072014e-308,"c":1.7976931348623157e308,"d":1e-400}',
    b'{"a":%d,"b":-%d}' % (MOST, MOST),
    b'{"a":%d,"b":-%d,"c":%d}' % (MOST + 1, MOST + 2, 1 << 64),
    b'{"a":9007199254740993.0,"b":9007199254740992e0}',
    b'{"a":%s}' % (b"7" * 400),
    b'{"a":1.0,"b":1,"c":1e0,"d":100e-2}',
    b'{"a":0.1,"b":0.30000000000000004,"c":0.1000000000000000055511151231257827}',
    b'{"":"empty key","a":{"":{"":[]}}}',
    b'{"__proto__":{"polluted":true},"constructor":1,"toString":null}',
    b'{"10":1,"9":2,"b":3,"a":4,"01":5}',
    '{"é":1,"e\u0301":2,"\u00df":3,"ss":4}'.encode(),
    '{"\U0001f399":"\U0001f468\u200d\U0001f469","\uffff":1,"\ue000":2}'.encode(),
    b'{"\\u00e9":"\\ud83c\\udf99 \\u0000\\b\\f\\/","a":"\\u2028"}',
    '{"a":"\u2028\u2029\x7f\ufeff","b":"\u202etxt"}'.encode(),
    b'{ "a" : [ ] ,\r\n\t"b":{ } , "c":[ [ ] , { } , null ] }',
    b'{"a":true,"b":false,"c":null,"d":"true","e":"null"}',
    b'{"a":' * 31 + b"{}" + b"}" * 31,
    b'{"checksum":"x","config":{"config":1},"signature":"y","version":2}',
    b'{"a":",\\"signature\\":\\"AAAA\\"}"}',
    b'{"a":[1,2.5,-3,4e4,[5,[6,[7]]]],"A":1}',
    b'{"a":"%s"}' % ("ü" * 20_000).encode(),
]
BAD = [
    b'{"a":1,"a":1}',
    b'{"a":{"b":1,"\\u0062":2}}',
    b'{"a":NaN}',
    b'{"a":-Infinity}',
    b'{"a":1e400}',
    b'{"a":01}',
    b'{"a":.5}',
    b'{"a":5.}',
    b'{"a":+1}',
    b'{"a":0x10}',
    b"{'a':1}",
    b'{"a":1,}',
    b'{"a":"\\ud800"}',
    b'{"a":"\\udf99\\ud83c"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xc0\xaf"}',
    b'{"a":"\\x41"}',
    b'{"a":"\n"}',
    b'{"a":True}',
    b'{"a":1 /* one */}',
    b'{"a":\xc2\xa01}',
    b"[]",
]


def update_of(number: int, config: bytes) -> bytes:
    """Return an update around the bytes of a config, whatever they are."""
    rest: dict[str, Any] = {**members(number), "checksum": None, "config": None}
    del rest["checksum"], rest["config"]
    checksum = hashlib.sha256(config).hexdigest().encode()
    return sealed_body(b'{"checksum":"%s","config":%s,%s' % (checksum, config, canonical(rest)[1:]))


def test_both_workers_read_odd_configs_alike(tmp_path: Path) -> None:
    raws = [update_of(number, config) for number, config in enumerate((*GOOD, *BAD), 1)]
    orders = [{**live(), "folder": str(tmp_path / "node")}, *(deliver(TOPIC, raw) for raw in raws)]
    twin = PythonTwin(tmp_path / "python")
    with patch("os.fsync", lambda _: None):
        ours = [twin.obey(order, raw) for order, raw in zip(orders, [b"", *raws], strict=True)]
    theirs = node_outcomes(orders, tmp_path / "workshop")
    for config, our, their in zip([b"", *GOOD, *BAD], ours, theirs, strict=True):
        assert our == their, config
    verdicts = [one["reports"][0]["reason"] or one["reports"][0]["state"] for one in ours[1:]]
    assert verdicts == ["applied"] * len(GOOD) + ["bad-json"] * len(BAD)
    assert all(one["applied"] for one in ours[1 : len(GOOD) + 1])
