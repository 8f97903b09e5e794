"""When the example in JavaScript says how it stands: in time for the daemon, which counts only the last beacons."""

from __future__ import annotations

import itertools
import json
import subprocess

from tests.node.programs import EXAMPLES, program

PROGRAM = """
import { Statuses } from "./statuses.mjs";
let beacon = 0;
const said = [];
const identity = { publicKeys: { worker: "box" }, status: () => Buffer.from("") };
const statuses = new Statuses(identity, ["router"], () => said.push([now, beacon]), () => ({ beacon }));
let now = 0;
for (; now <= 400; now += 1) {
  if (now % 30 === 20) beacon += 1;
  statuses.tick(now);
}
console.log(JSON.stringify(said));
"""
LIVES_SECONDS = 90  # from one beacon to the third after it, when it is none of the last three any more


def test_a_status_is_followed_by_another_while_its_beacon_is_one_of_the_last() -> None:
    done = subprocess.run(
        [program("node"), "--input-type=module", "-e", PROGRAM],
        cwd=EXAMPLES / "node", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said[:2] == [[0, 0], [20, 1]], "it speaks again once it saw its first beacon"
    for (_, beacon), (at, _) in itertools.pairwise(said[1:]):
        ends = 20 + 30 * (beacon - 1) + LIVES_SECONDS
        assert at < ends
