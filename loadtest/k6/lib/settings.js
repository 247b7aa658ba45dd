// Everything that can be set from outside, by environment variables. The README has the table.

const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600 };

/** Seconds of a duration such as `90s`, `5m` or `1h30m`. */
export function seconds(duration) {
  const parts = [...`${duration}`.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (parts.map(([part]) => part).join('') !== `${duration}` || parts.length === 0) {
    throw new Error(`not a duration: ${duration} (90s, 5m, 1h30m)`);
  }
  return parts.reduce((sum, [, value, unit]) => sum + Number(value) * UNITS[unit], 0);
}

function number(name, fallback) {
  const value = Number(__ENV[name] || fallback);
  if (!(value >= 0)) throw new Error(`${name} is not a number: ${__ENV[name]}`);
  return value;
}

/** The settings of a script: its `defaults` where it has some, ours elsewhere, the environment before both. */
export function settings(defaults = {}) {
  const of = { connections: 2000, duration: '5m', channels: 20, rate: 20, payloadBytes: 1024, ramp: 200, patience: '0s', ...defaults };
  return {
    url: __ENV.URL || 'ws://127.0.0.1:8000',
    apiUrls: (__ENV.API_URL || 'http://127.0.0.1:9000').split(','),
    apiKey: __ENV.API_KEY || '',
    secret: __ENV.SECRET || '',
    namespace: __ENV.NAMESPACE || 'room',
    connections: number('CONNECTIONS', of.connections),
    perVu: number('PER_VU', 100),
    durationSeconds: seconds(__ENV.DURATION || of.duration),
    channels: number('CHANNELS', of.channels),
    rate: number('RATE', of.rate),
    payloadBytes: number('PAYLOAD_BYTES', of.payloadBytes),
    ramp: number('RAMP', of.ramp),
    patienceMs: 1000 * seconds(of.patience),
    jitter: __ENV.JITTER !== 'off',
    settleMs: 1000 * seconds(__ENV.SETTLE || '20s'),
    plants: (__ENV.PLANT || '').split(','),
    stageUrl: __ENV.STAGE_URL || '',
    out: __ENV.OUT || '.',
  };
}
