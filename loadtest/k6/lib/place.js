// The judge: one client's place in one channel. Plain JavaScript that knows no socket, so that `selftest.js` can try it.

/** Holes that are remembered one by one; more are counted at once. */
const HOLES_MAX = 10_000;

/** What was found, summed over places; VUs cannot share one. */
export class Findings {
  gaps = 0;
  duplicates = 0;
  disorders = 0;
  recovered = 0;
  unrecovered = 0;
  delivered = 0;
}

/** Within an epoch offsets go on by one. Feed it what the gateway says of the channel, in the order of arrival. */
export class Place {
  epoch = null;
  offset = 0;
  #holes = new Set();
  #findings;

  constructor(findings) {
    this.#findings = findings;
  }

  /** Whether a client that comes back has a place to name. */
  get isKnown() {
    return this.epoch !== null;
  }

  /** The result of `subscribe`, or the entry of the bare form's connect push. */
  subscribed({ epoch = '', offset = 0, was_recovering: asked, recovered, publications = [] }) {
    if (!this.isKnown) return this.#moveTo(epoch, offset);
    if (!recovered) {
      // Who was told of the loss can load the state from elsewhere. Who was not has lost something in silence.
      if (asked || epoch !== this.epoch) this.#findings.unrecovered += 1;
      else this.#skipTo(offset);
      return this.#moveTo(epoch, offset);
    }
    this.#findings.recovered += 1;
    // `offset` repeats what was asked for: anything else is not our place.
    if (epoch !== this.epoch || offset !== this.offset) this.#findings.gaps += 1;
    for (const publication of publications) this.publication(publication);
  }

  /** A publication, live or recovered. */
  publication({ offset }) {
    this.#findings.delivered += 1;
    if (offset > this.offset) {
      this.#skipTo(offset - 1);
      this.offset = offset;
    } else if (this.#holes.delete(offset)) {
      this.#findings.disorders += 1;
    } else {
      this.#findings.duplicates += 1;
    }
  }

  /** The end: the history goes up to here, and what has not come by now is lost. */
  finish({ epoch, offset }) {
    if (epoch !== this.epoch) this.#findings.gaps += Math.max(offset, 1);
    else if (offset > this.offset) this.#skipTo(offset);
    this.#closeHoles();
  }

  #moveTo(epoch, offset) {
    this.#closeHoles();
    this.epoch = epoch;
    this.offset = offset;
  }

  /** Everything after our place up to `offset` is missing for now. */
  #skipTo(offset) {
    const count = offset - this.offset;
    if (count > HOLES_MAX - this.#holes.size) {
      this.#findings.gaps += count;
      return;
    }
    for (let hole = this.offset + 1; hole <= offset; hole += 1) this.#holes.add(hole);
  }

  #closeHoles() {
    this.#findings.gaps += this.#holes.size;
    this.#holes.clear();
  }
}
