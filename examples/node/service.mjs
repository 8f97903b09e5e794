// One service: what is kept of it, and steps 9 to 12. Nothing is applied that was not made durable first; a refusal
// keeps what runs and raises the floor; what failed or was cut off is tried once more at each start.
import { Rejected } from "../verify/unseal.mjs";
import { Refused, cannotKeep, check, decide, ended, placeOf, problem, proofOf, undone, verdict } from "./attempt.mjs";
import { isAbove } from "./beacon.mjs";
import { Flags } from "./flags.mjs";
import { NOTHING } from "./state.mjs";

export class Service {
  /**
   * @param {object} parts trust, state, lookout, program ({check, apply, deleted}), say (takes reports)
   * @param {{firstUse: "wait" | "run", onRevoked: "keep" | "refuse-start"}} policy
   */
  constructor(name, parts, policy) {
    Object.assign(this, parts, policy, { name, topic: `system/config/${name}` });
    this.belief = NOTHING;
    this.flags = new Flags(() => this.lookout.flags(name, this.running?.update));
    this.attempt = null; // what was tried last, as a status tells it
    this.running = null; // what the program applied last: {update, told}
    this.wasTried = false;
    this.waiting = null; // the highest first message, until a fresh beacon lists it
  }

  /** Run what was accepted before, without asking any broker. */
  async start(isKeyringLost) {
    const { belief, lost } = this.state.load(this.name);
    [this.belief, this.attempt] = [belief, belief.attempt];
    this.flags.begin(belief.floor !== null, lost || isKeyringLost);
    if (belief.current === null || belief.outcome === "deleted") return;
    if (belief.outcome === "pending") await this.#startUnfinished(belief);
    else await this.#startFrom(belief.current, true);
  }

  /** Take one message from the broker. False: have what is retained delivered again. */
  async receive(raw) {
    let accepted;
    try {
      accepted = this.trust.judge(this.topic, raw, this.belief.floor);
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      if (["rollback", "fork"].includes(error.reason)) this.lookout.evidence(this.name, proofOf(this.belief));
      // whoever signs so has forgotten a keyring
      if (["wrong-key", "revoked-key"].includes(error.reason)) this.lookout.evidence("keyring", this.trust.proof);
      this.#tell(null, "rejected", error);
      return error.reason !== "keyring-behind";
    }
    // what was refused before is tried once in each life of the program, which may have been mended
    const mayTry = !accepted.again || (this.belief.outcome === "rejected" && !this.wasTried);
    if (this.belief.floor === null ? this.#mayRun(accepted) : mayTry) return this.#take(accepted);
    this.#tell(accepted, "held");
    return true;
  }

  /** Compare with a fresh beacon. True: something newer is kept back. */
  async heedBeacon() {
    const { floor } = this.belief;
    if (floor === null && this.waiting !== null && this.lookout.confirms(this.name, this.waiting.floor)) {
      const accepted = this.waiting;
      this.#confirmed();
      return !(await this.#take(accepted));
    }
    if (floor !== null && this.lookout.confirms(this.name, floor)) this.#confirmed();
    return this.lookout.compareService(this.name, floor, proofOf(this.belief));
  }

  /** A keyring was taken: say of what runs how its signer would be judged today. */
  heedKeyring() {
    const { current } = this.belief;
    if (current !== null && this.running !== null) this.flags.signer(this.trust.recall(this.topic, current).flag);
  }

  /** Report what changes by the passing of time alone. */
  tick() {
    if (this.flags.areNews) this.#tell(null, "held");
  }

  /** What a status tells, beside who tells it. */
  get standing() {
    return { running: this.running?.told ?? null, last_attempt: this.attempt, flags: this.flags.all };
  }

  /** Without a floor, only a fresh beacon tells today's message from an old one. */
  #mayRun(accepted) {
    if (this.lookout.confirms(this.name, accepted.floor)) {
      this.#confirmed();
      return true;
    }
    if (this.waiting === null || isAbove(accepted.floor, this.waiting.floor)) this.waiting = accepted;
    return this.firstUse === "run";
  }

  /** Keep it, apply it, keep how that ended, report. False: it could not be kept, and nothing has changed. */
  async #take(accepted) {
    const values = () => check(this.name, accepted, this.program);
    const { kept, values: checked, refusal = null } = decide(this.belief, accepted, values, this.#runs(accepted));
    try {
      this.state.save(this.name, kept);
    } catch (error) {
      const errors = [cannotKeep(error)];
      this.attempt = ended(accepted, "pending", { reason: "cannot-keep", errors });
      this.#tell(accepted, "held", null, errors);
      return false;
    }
    this.#hold(kept);
    if (kept.outcome === "deleted") await this.program.deleted(this.name);
    if (kept.outcome !== "pending") {
      this.#tell(accepted, refusal ? "rejected" : "deleted", refusal);
      return true;
    }
    const failure = await this.#handOver(accepted, checked, "broker");
    this.#finish(kept, accepted, failure);
    return true;
  }

  /** Step 12: have the program apply the values unless they run; returns why it did not. */
  async #handOver(accepted, values, source) {
    if (!this.#runs(accepted)) {
      try {
        await this.program.apply(this.name, values, accepted.update, source);
      } catch (error) {
        return new Refused("apply-failed", [problem("APPLY_FAILED", error, "Mend it; the next start tries again.")]);
      }
    }
    const told = { ...placeOf(accepted), source, applied_at: new Date().toISOString() };
    this.running = { update: accepted.update, told };
    this.flags.signer(null);
    return null;
  }

  #runs({ update }) {
    return this.running !== null && this.running.update.checksum === update.checksum;
  }

  /** Run a kept message, and say how that went; of one before the newest, what was tried last stays told. */
  async #startFrom(raw, isNewest) {
    const { accepted, failure } = await this.#tryKept(raw);
    if (isNewest && accepted && failure) this.attempt = ended(accepted, "rejected", failure);
    this.#tell(accepted, failure ? "rejected" : "applied", failure);
  }

  /** Should this try end the process too, the next start begins with the one before, and hears the broker. */
  async #startUnfinished(belief) {
    const { attempt } = belief;
    const failed = attempt?.state === "pending" ? { ...attempt, state: "rejected", reason: "apply-failed" } : attempt;
    this.#conclude({ ...undone(belief), attempt: failed });
    const { accepted, failure } = await this.#tryKept(belief.current);
    this.#finish(belief, accepted, failure);
    if (failure && belief.previous !== null) await this.#startFrom(belief.previous, false);
  }

  /** Apply a message that was accepted before; return what it is, and why that did not work. */
  async #tryKept(raw) {
    let accepted = null;
    try {
      accepted = this.trust.recall(this.topic, raw);
      if (accepted.flag === "revoked-signer" && this.onRevoked === "refuse-start") throw new Refused("revoked-key");
      const failure = await this.#handOver(accepted, check(this.name, accepted, this.program), "cache");
      if (failure === null) this.flags.signer(accepted.flag);
      return { accepted, failure };
    } catch (error) {
      if (error instanceof Refused || error instanceof Rejected) return { accepted, failure: error };
      throw error;
    }
  }

  /** Keep and report how an attempt ended; of values that ran already, what was tried before stays told. */
  #finish(pending, accepted, failure) {
    const state = failure ? "rejected" : "applied";
    const isOfAnother = pending.attempt !== null && pending.attempt.body_sha256 !== accepted?.floor.body_sha256;
    const tried = accepted === null ? this.attempt : ended(accepted, state, failure);
    const attempt = isOfAnother && !failure ? pending.attempt : tried;
    const trouble = this.#conclude({ ...(failure ? undone(pending) : { ...pending, outcome: "applied" }), attempt });
    this.#tell(accepted, state, failure, trouble);
  }

  /** Keep it; where the disk does not take it, this process knows it all the same. */
  #conclude(belief) {
    this.#hold(belief);
    try {
      this.state.save(this.name, belief);
      return [];
    } catch (error) {
      return [cannotKeep(error)];
    }
  }

  #hold(belief) {
    [this.belief, this.attempt, this.wasTried] = [belief, belief.attempt, true];
  }

  #confirmed() {
    this.waiting = null;
    this.flags.confirmed();
  }

  #tell(accepted, state, failure = null, trouble = []) {
    this.say(verdict(this.name, accepted, state, failure, trouble, this.flags.tell()));
  }
}
