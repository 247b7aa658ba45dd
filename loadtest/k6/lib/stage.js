// Whoever plays the run from outside (`run.py`) says over HTTP what happens now and when it is over. Without one, a run
// is as long as it is set to be, and its last two thirds are the part in which something happens.

import http from 'k6/http';
import { pause } from './connection.js';

const LOOK_AGAIN_MS = 250;

/** The channels of a run. The name is new in every run, so that what an earlier one left behind is not judged. */
const channelsOf = (settings, run) =>
  Array.from({ length: settings.channels }, (_, index) => `${settings.namespace}:k6-${run}-${index}`);

/** The course of a run, as one VU sees it. Keep `watch` running beside what the VU does. */
export class Course {
  /** What goes on: `calm`, or what the stage calls it. */
  phase = 'calm';
  hasEnded = false;

  constructor(settings, { startedAt, run }) {
    this.settings = settings;
    this.startedAt = startedAt;
    this.channels = channelsOf(settings, run);
  }

  /** Follows the course to its end, telling `onLook` each time that it has looked. */
  async watch(onLook = () => {}) {
    while (!this.hasEnded) {
      await this.#look();
      onLook();
      await pause(LOOK_AGAIN_MS);
    }
  }

  /** Who asks says what it is about. */
  get #question() {
    const { stageUrl, connections, durationSeconds } = this.settings;
    return `${stageUrl}?connections=${connections}&seconds=${durationSeconds}&channel=${encodeURIComponent(this.channels[0])}`;
  }

  async #look() {
    if (this.settings.stageUrl) {
      const answer = await http.asyncRequest('GET', this.#question, null, { tags: { name: 'stage' } });
      // A stage that is gone has ended the run.
      const { phase, done } = answer.status === 200 ? answer.json() : { phase: this.phase, done: true };
      this.phase = phase;
      this.hasEnded = done;
    } else {
      const share = (Date.now() - this.startedAt) / 1000 / this.settings.durationSeconds;
      this.phase = share > 1 / 3 ? 'event' : 'calm';
      this.hasEnded = share >= 1;
    }
  }
}
