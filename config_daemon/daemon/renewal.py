"""Another key signs, or another keyring is in force: everything is sealed anew, the will included.

Laws: a will cannot be changed on a connection, so that one is ended, politely while a key may sign; where
none may, it is ended without a word, and the will says that we are gone.
"""

from __future__ import annotations

from config_daemon.daemon.parts import Parts


def renew(p: Parts, now: float) -> float | None:
    """Have everything sealed anew; return when to dial again, None when nothing changes about that."""
    p.keyrings.renew()
    p.keeper.touch()
    p.sight.reread(p.plan.services)
    p.reporter.renew()
    if p.identity.signer is None:
        p.broker.drop("broker-down: no key may sign")
        return None
    if p.broker.connected:
        p.broker.close()
        p.plan.doubt_all()
    return now
