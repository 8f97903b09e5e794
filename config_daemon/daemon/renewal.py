"""Another keyring is in force, or another key signs: then everything is sealed anew, the will included.

Laws: a will cannot be changed on a connection, so that one is ended, politely while a key may sign; where
none may, it is ended without a word, and the will says that we are gone.
"""

from __future__ import annotations

from config_daemon.daemon.identity import News
from config_daemon.daemon.parts import Parts


def renew(p: Parts, news: News, now: float) -> bool:
    """Have everything know; True when it is time for another connection."""
    p.keyrings.renew()
    p.reporter.renew()
    if news == "keyring":
        p.beacons.hurry()
        return False
    p.beacons.renew()
    p.keeper.touch()
    p.sight.reread(p.plan.services)
    if p.identity.signer is None:
        p.broker.drop("broker-down: no key may sign")
        return False
    if p.broker.connected:
        p.reporter.farewell(
            now, event="key-changed"
        )  # should we not come back, nobody may think that all is well
        p.broker.close()
        p.plan.doubt_all()
    return True
