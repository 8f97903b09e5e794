// One service: what is kept of it, and steps 9 to 12. Nothing is applied that was not made durable first; a refusal
// keeps what runs and raises the floor; what failed or was cut off is tried once more at each start.
import { Rejected } from "../verify/unseal.mjs";
import { Refused, cannotKeep, check, decide, ended, placeOf, problem, undone, verdict } from "./attempt.mjs";
import { compare } from "./beacon.mjs";
import { NOTHING } from "./state.mjs";

const SIGNER_FLAGS = ["stale", "revoked-signer"];

export class Service {
  /**
   * @param {object} parts trust, state, lookout, program ({check, apply, deleted}), say (takes reports)
   * @param {{firstUse: "wait" | "run", onRevoked: "keep" | "refuse-start"}} policy
   */
  constructor(name, parts, policy) {
    Object.assign(this, parts, policy, { name, topic: `system/config/${name}` });
    this.belief = NOTHING;
    this.ownFlags = [];
    this.running = null; // what the program applied last: {update, told}
    this.wasTried = false;
    this.waiting = null; // the highest first message, until a fresh beacon lists it
  }

  /** Run what was accepted before, without asking any broker. */
  async start(isKeyringLost) {
    const { belief, lost } = this.state.load(this.name);
    this.belief = belief;
    const flags = { unconfirmed: belief.floor === null, "floor-lost": lost || isKeyringLost };
    this.ownFlags = Object.keys(flags).filter((flag) => flags[flag]);
    this.saidFlags = this.flags.join();
    if (belief.current === null || belief.outcome === "deleted") return;
    if (belief.outcome !== "pending") return void (await this.#runKept(belief.current));
    // should this try end the process too, the next start begins with the one before
    const { attempt } = belief;
    const failed = attempt?.state === "pending" ? { ...attempt, state: "rejected", reason: "apply-failed" } : attempt;
    const trouble = this.#conclude({ ...undone(belief), attempt: failed });
    const runs = await this.#runKept(belief.current, belief, trouble);
    if (!runs && belief.previous !== null) await this.#runKept(belief.previous);
  }

  /** Take one message from the broker. False: have what is retained delivered again. */
  async receive(raw) {
    let accepted;
    try {
      accepted = this.trust.judge(this.topic, raw, this.belief.floor);
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      if (["rollback", "fork"].includes(error.reason)) this.lookout.evidence(this.name, this.#proof);
      // whoever signs so has forgotten a keyring
      if (["wrong-key", "revoked-key"].includes(error.reason)) this.lookout.evidence("keyring", this.trust.proof);
      this.#tell(null, "rejected", error);
      return error.reason !== "keyring-behind";
    }
    // what was refused before is tried once in each life of the program, which may have been mended
    const isWorthATry = !accepted.again || (this.belief.outcome === "rejected" && !this.wasTried);
    if (this.belief.floor === null ? this.#mayRun(accepted) : isWorthATry) return this.#take(accepted);
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
    return this.lookout.compareService(this.name, floor, this.#proof);
  }

  /** A keyring was taken: say of what runs how its signer would be judged today. */
  heedKeyring() {
    const { current } = this.belief;
    if (current !== null && this.running !== null) this.#flagSigner(this.trust.recall(this.topic, current).flag);
  }

  /** Report what changes by the passing of time alone. */
  tick() {
    if (this.flags.join() !== this.saidFlags) this.#tell(null, "held");
  }

  get flags() {
    return [...new Set([...this.ownFlags, ...this.lookout.flags(this.name, this.running?.update)])];
  }

  /** What a status tells, beside who tells it. */
  get standing() {
    return { running: this.running?.told ?? null, last_attempt: this.belief.attempt, flags: this.flags };
  }

  get #proof() {
    return [this.belief.unused ?? this.belief.current].filter((raw) => raw !== null);
  }

  /** Without a floor, only a fresh beacon tells today's message from an old one. */
  #mayRun(accepted) {
    if (this.lookout.confirms(this.name, accepted.floor)) {
      this.#confirmed();
      return true;
    }
    const place = ({ floor }) => [floor.generation, floor.sequence];
    if (this.waiting === null || compare(place(accepted), place(this.waiting)) > 0) this.waiting = accepted;
    return this.firstUse === "run";
  }

  /** Keep it, apply it, keep how that ended, report. False: it could not be kept, and nothing has changed. */
  async #take(accepted) {
    const values = () => check(this.name, accepted, this.program);
    const { kept, values: checked, refusal = null } = decide(this.belief, accepted, values, this.#runs(accepted));
    try {
      this.state.save(this.name, kept);
    } catch (error) {
      this.#tell(accepted, "held", null, [cannotKeep(error)]);
      return false;
    }
    this.belief = kept;
    this.wasTried = true;
    if (kept.outcome === "deleted") await this.program.deleted(this.name);
    if (kept.outcome !== "pending") {
      this.#tell(accepted, refusal ? "rejected" : "deleted", refusal);
      return true;
    }
    const failure = await this.#handOver(accepted, checked, "broker");
    const attempt = this.#attempted(accepted, failure, kept.attempt);
    const trouble = this.#conclude({ ...(failure ? undone(kept) : { ...kept, outcome: "applied" }), attempt });
    this.#tell(accepted, failure ? "rejected" : "applied", failure, trouble);
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
    this.#flagSigner(null);
    return null;
  }

  #runs({ update }) {
    return this.running !== null && this.running.update.checksum === update.checksum;
  }

  /** Apply a message that was accepted before; true when that worked. */
  async #runKept(raw, unfinished = null, trouble = []) {
    let [accepted, failure] = [null, null];
    try {
      accepted = this.trust.recall(this.topic, raw);
      if (accepted.flag === "revoked-signer" && this.onRevoked === "refuse-start") throw new Refused("revoked-key");
      failure = await this.#handOver(accepted, check(this.name, accepted, this.program), "cache");
      if (failure === null) this.#flagSigner(accepted.flag);
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Rejected)) throw error;
      failure = error;
    }
    const attempt = accepted && (unfinished || failure) ? this.#attempted(accepted, failure) : this.belief.attempt;
    if (unfinished && failure === null) trouble = this.#conclude({ ...unfinished, outcome: "applied", attempt });
    else this.belief = { ...this.belief, attempt };
    this.#tell(accepted, failure ? "rejected" : "applied", failure, trouble);
    return failure === null;
  }

  /** Keep how an attempt ended; where the disk does not take it, this process knows it all the same. */
  #conclude(belief) {
    this.belief = belief;
    this.wasTried = true;
    try {
      this.state.save(this.name, belief);
      return [];
    } catch (error) {
      return [cannotKeep(error)];
    }
  }

  #attempted(accepted, failure, before = null) {
    const isOfAnother = before !== null && before.body_sha256 !== accepted.floor.body_sha256;
    return isOfAnother && failure === null ? before : ended(accepted, failure ? "rejected" : "applied", failure);
  }

  #flagSigner(flag) {
    this.ownFlags = [...this.ownFlags.filter((one) => !SIGNER_FLAGS.includes(one)), ...(flag ? [flag] : [])];
  }

  #confirmed() {
    this.waiting = null;
    this.ownFlags = this.ownFlags.filter((flag) => flag !== "unconfirmed");
  }

  #tell(accepted, state, failure = null, trouble = []) {
    this.saidFlags = this.flags.join();
    this.say(verdict(this.name, accepted, state, failure, trouble, this.flags));
  }
}
