// What becomes of a message: the words for it, and what to keep before anything is applied.
import { fitting, plain } from "./values.mjs";

/** Why a message is not applied: a reason of the protocol, and what to tell a person. */
export class Refused extends Error {
  constructor(reason, errors = []) {
    super(reason);
    this.reason = reason;
    this.errors = errors;
  }
}

const CREDENTIALS = /(?<=\/\/)[^\s/@]+(?=@)/g; // of a URL: whoever may read statuses reads this

/** Return one error as statuses carry it. */
export const problem = (code, error, suggestion) => ({
  error_type: "worker",
  error_code: code,
  message: fitting(String(error?.message ?? error).replace(CREDENTIALS, "***"), 500),
  suggestion,
});

export const cannotKeep = (error) => problem("CANNOT_KEEP", error, "Free space in the worker's state folder.");

/** Return which message it is, as statuses say it. */
export const placeOf = ({ update, floor }) => ({ ...floor, config_version: update.config_version });

/** Return an attempt as statuses tell it. */
export function ended(accepted, state, failure = null) {
  const { reason = null, errors = [] } = failure ?? {};
  return { ...placeOf(accepted), state, reason, errors, at: new Date().toISOString() };
}

/** Return what became of a message, for the program: of one that was not accepted, nothing in it is told. */
export function verdict(service, accepted, state, failure, trouble, flags) {
  const { generation = null, sequence = null, config_version = null } = accepted?.update ?? {};
  const { reason = null, errors = [] } = failure ?? {};
  return { service, generation, sequence, config_version, state, reason, flags, errors: [...errors, ...trouble] };
}

/** Return the messages that prove a floor: one, or none. */
export const proofOf = ({ unused, current }) => [unused ?? current].filter((raw) => raw !== null);

/** Return a belief without its unfinished message: only the number stays. */
export const undone = (pending) => ({
  ...pending,
  current: pending.previous,
  previous: null,
  unused: pending.current,
  outcome: "rejected",
});

/** Steps 10 and 11: what the message needs from this worker, and the program's own check. Throws Refused. */
export function check(service, { update }, program) {
  if (update.secrets !== null) {
    const message = "it carries secrets, and this worker opens none";
    throw new Refused("cannot-open", [problem("CANNOT_OPEN", message, "Use a worker that opens secrets.")]);
  }
  const values = plain(update.config);
  try {
    program.check(service, values);
  } catch (error) {
    throw new Refused("invalid", [problem("INVALID", error, "Set values that the program accepts.")]);
  }
  return values;
}

/**
 * What to keep before anything is applied, the values to apply, and why not to.
 * @param {import("./state.mjs").Belief} belief
 * @param {() => object} values checks the message and returns its values
 * @param {boolean} isRunning these very values run: they are not handed over, and end no earlier attempt
 */
export function decide(belief, accepted, values, isRunning) {
  const kept = { floor: accepted.floor, current: null, previous: belief.current, unused: accepted.raw };
  if (accepted.update.deleted) return { kept: { ...kept, outcome: "deleted", attempt: ended(accepted, "deleted") } };
  try {
    const attempt = isRunning ? belief.attempt : ended(accepted, "pending");
    const pending = { ...kept, current: accepted.raw, unused: null, outcome: "pending", attempt };
    return { values: values(), kept: pending };
  } catch (refusal) {
    if (!(refusal instanceof Refused)) throw refusal;
    const attempt = ended(accepted, "rejected", refusal);
    const refused = { ...kept, current: belief.current, previous: belief.previous, outcome: "rejected", attempt };
    return { refusal, kept: refused };
  }
}
