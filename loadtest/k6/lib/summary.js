// What a run leaves behind: a text to read, `summary.json` for programs, and one page that needs nothing else.

const isOurs = ([name]) => name.startsWith('clarion_') && name !== 'clarion_completed';

/** `handleSummary` of a script: writes into the directory of the settings. `run.py` adds what it has seen. */
export function summary(name, settings) {
  return (data) => {
    const report = digest(name, settings, data);
    return {
      stdout: text(report),
      [`${settings.out}/summary.json`]: `${JSON.stringify({ ...report, k6: data }, null, 2)}\n`,
      [`${settings.out}/report.html`]: page(report),
    };
  };
}

/** The same, in the terms of this suite. */
function digest(name, settings, { metrics, root_group: root, state }) {
  const all = Object.entries(metrics).sort(([left], [right]) => (left < right ? -1 : 1));
  const ours = all.filter(isOurs);
  // A part of a metric, `name{tag}`, has a threshold only to be told apart.
  const judged = all.filter(([metric]) => !metric.includes('{'));
  const verdicts = judged.flatMap(([metric, { thresholds = {} }]) =>
    Object.entries(thresholds).map(([promise, { ok }]) => ({ metric, promise, ok, found: found(metrics[metric], promise) })));
  const { connections, durationSeconds, channels, rate, payloadBytes, jitter } = settings;
  return {
    name,
    passed: verdicts.every(({ ok }) => ok),
    seconds: Math.round(state.testRunDurationMs / 1000),
    settings: { connections, durationSeconds, channels, rate, payloadBytes, jitter },
    verdicts,
    checks: checksOf(root),
    counts: Object.fromEntries(ours.filter(isCounted).map(([key, { values }]) => [key, values.count ?? Math.round(values.value)])),
    times: Object.fromEntries(ours.filter(isTimed).map(([key, { values }]) => [key, values])),
  };
}

/** Parts of a count, such as `name{code:3001}`, are told only where there is something. */
const isCounted = ([name, { type, values }]) => type !== 'trend' && (values.count > 0 || !name.includes('{'));
const isTimed = ([, { type, values }]) => type === 'trend' && values.count > 0;

/** What a promise is about: `p(99)<200` the percentile, `count==0` the count. */
const found = ({ values }, promise) => values[/^[^<>=!]+/.exec(promise)[0]];

function checksOf({ checks, groups }) {
  const own = checks.map(({ name, passes, fails }) => ({ name, passes, fails }));
  return groups.reduce((all, group) => all.concat(checksOf(group)), own);
}

const rounded = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
const timesOf = ({ count, min, med, 'p(95)': p95, 'p(99)': p99, max }) => [count, ...[min, med, p95, p99, max].map(rounded)];
const HEAD = ['', 'count', 'min', 'p50', 'p95', 'p99', 'max'];

function text({ name, seconds, verdicts, checks, counts, times }) {
  const judged = verdicts.map(({ metric, promise, ok, found: value }) => `  ${ok ? '✓' : '✗'} ${metric} ${promise}: ${value}`);
  const failed = checks.filter(({ fails }) => fails > 0).map(({ name: what, fails }) => `  ✗ ${what} (${fails} times)`);
  const counted = Object.entries(counts).map(([key, value]) => `  ${key.padEnd(40)}${value}`);
  const cells = ([first, ...rest]) => `  ${first.padEnd(40)}${rest.map((cell) => `${cell}`.padStart(9)).join('')}`;
  const timed = [HEAD, ...Object.entries(times).map(([key, values]) => [key, ...timesOf(values)])].map(cells);
  return `\n${name}, ${seconds} s\n${[...judged, ...failed, '', ...counted, '', ...timed].join('\n')}\n`;
}

const escaped = (value) => `${value}`.replace(/[&<>]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign]);
const row = (cells, kind = 'td') => `<tr>${cells.map((cell) => `<${kind}>${escaped(cell)}</${kind}>`).join('')}</tr>`;
const table = (head, rows) => `<table>${row(head, 'th')}${rows.map((cells) => row(cells)).join('')}</table>`;

function page({ name, passed, seconds, settings, verdicts, checks, counts, times }) {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Clarion, k6: ${escaped(name)}</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
  table { border-collapse: collapse; margin: 0 0 2rem; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #8884; }
  th:first-child, td:first-child { text-align: left; }
</style>
<h1>${escaped(name)}: ${passed ? 'passed' : 'failed'}</h1>
<p>${seconds} s. ${Object.entries(settings).map(([key, value]) => `${key} ${value}`).join(' · ')}</p>
<h2>Promises</h2>
${table(['', 'promise', 'found', ''], verdicts.map(({ metric, promise, ok, found: value }) => [metric, promise, value, ok ? '✓' : '✗']))}
<!-- stage -->
<h2>Counts</h2>
${table(['', 'count'], Object.entries(counts))}
<h2>Times in milliseconds, as k6 sees them</h2>
${table(HEAD, Object.entries(times).map(([key, values]) => [key, ...timesOf(values)]))}
<h2>Checks</h2>
${table(['', 'passed', 'failed'], checks.map(({ name: what, passes, fails }) => [what, passes, fails]))}
</html>
`;
}
