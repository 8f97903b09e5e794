// What a person should know of one service: about what runs, and about how this worker is served.

const SIGNER = ["stale", "revoked-signer"];

export class Flags {
  /** @param {() => string[]} watched flags that hold by what is seen of the beacons now */
  constructor(watched) {
    this.watched = watched;
    this.own = [];
    this.told = "";
  }

  /** Begin a life: with a floor or without, and whether one was lost. */
  begin(hasFloor, isLost) {
    this.own = [...(hasFloor ? [] : ["unconfirmed"]), ...(isLost ? ["floor-lost"] : [])];
    this.told = this.all.join();
  }

  /** Say of what runs how its signer would be judged today; null where it would be believed. */
  signer(flag) {
    this.own = [...this.own.filter((one) => !SIGNER.includes(one)), ...(flag ? [flag] : [])];
  }

  /** A fresh beacon listed what is held. */
  confirmed() {
    this.own = this.own.filter((flag) => flag !== "unconfirmed");
  }

  get all() {
    return [...new Set([...this.own, ...this.watched()])];
  }

  get areNews() {
    return this.all.join() !== this.told;
  }

  /** Return all of them, which are told now. */
  tell() {
    this.told = this.all.join();
    return this.all;
  }
}
