"""The rows of the campaign in a few words, and why some are not run."""

from __future__ import annotations

ROWS = {
    1: "kill before a commit", 2: "kill between a commit and the answer over REST", 3: "kill after a commit",
    4: "kill after sending", 5: "kill before the cache is written", 6: "kill in the cache's write",
    7: "kill in a commit", 8: "kill in a migration, a key's retirement, a restore", 9: "a stop under load",
    10: "a frozen daemon", 11: "no memory", 12: "kills at random", 13: "a broker that forgets",
    14: "a broker restarted",
    15: "a broker wiped", 16: "a broker away for long", 17: "a frozen broker", 18: "a half-open connection",
    19: "answers swallowed", 20: "a stolen client id", 21: "one topic denied", 22: "no read-back",
    23: "topics overwritten",
    24: "yesterday's state put back", 25: "one topic withheld", 26: "a bad certificate", 27: "a password rotated",
    28: "a config too large for the broker", 29: "a config of ten megabytes over REST",
    30: "a cold start of many services",
    31: "a flood of writes", 32: "the database locked", 33: "short locks", 34: "bits flipped", 35: "damaged files",
    36: "a flip while it runs", 37: "the database deleted", 38: "another database", 39: "the log lost",
    40: "an old log beside a restored database", 41: "another schema", 42: "odd rows", 43: "a full disk",
    44: "a read-only file system", 45: "failing reads, writes and syncs", 46: "no descriptors", 47: "clocks",
    48: "`.env` damaged", 49: "no inotify", 50: "the cache damaged", 51: "keys rotated", 52: "a key revoked",
    53: "numbers used up by a thief", 54: "two daemons", 55: "many writers", 56: "a worker's troubles",
    57: "enrolment", 58: "malicious statuses", 59: "Litestream", 60: "REST under attack", 61: "a canary in all of it",
    62: "fuzzing", 63: "writes while the database is rebuilt", 64: "there and back around a crash",
    65: "an older database, written past its old height", 66: "old keys restored", 67: "keyrings missed",
    68: "refused, then mended", 69: "old statuses and wills",
}  # fmt: skip

_LATER = "that part of the product does not exist yet"
NOT_RUN = {
    **dict.fromkeys((2, 29, 57, 58, 59, 60, 69), _LATER),
    40: "nothing restores in place: the three files are moved together, which row 63 tries",
    11: "the kernel's own killer is kill -9, which is row 12",
    61: "part of every run: N7",
    62: "`make fuzz` does it, a million inputs for each reader",
}
