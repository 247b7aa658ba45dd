// One bash for a page: what a command sets, the next one finds. Everything that it starts ends with it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

/** How long a command may take. Nothing takes this long when all is well. */
const DEADLINE_MS = 60_000;

const running = new Set();
const end = (pid) => { try { process.kill(-pid, 'SIGKILL'); } catch { /* It has ended. */ } };
process.on('exit', () => running.forEach(end));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

export class Shell {
  #bash;
  #directory;
  #count = 0;
  #status = '';
  #heard = () => {};

  /** A shell in `directory`, which has read the file `prelude`. */
  static async start(directory, environment, prelude) {
    const shell = new Shell();
    shell.#directory = directory;
    shell.#bash = spawn('bash', ['--noprofile', '--norc'], {
      cwd: directory, env: { ...process.env, ...environment }, detached: true, stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
    });
    running.add(shell.#bash.pid);
    shell.#bash.stdio[3].on('data', (bytes) => { shell.#status += bytes; shell.#heard(); });
    shell.#bash.once('close', () => { shell.#status += 'ended\n'; shell.#heard(); });
    await shell.#say(`. '${prelude}'`, 'prelude');
    return shell;
  }

  /** Runs `script`: the code of the first command that failed, or of the last, and what was printed on both streams. */
  async run(script) {
    const name = `${++this.#count}`;
    const file = join(this.#directory, `.script-${name}`);
    await writeFile(file, `${script}\n`);
    const code = await this.#say(`step '${file}'`, name);
    return { code, printed: await this.#printed(name) };
  }

  /** Starts `script` and leaves it running; the name is for `printed`. */
  async leave(script) {
    const name = `${++this.#count}`;
    const file = join(this.#directory, `.script-${name}`);
    await writeFile(file, `${script}\n`);
    await this.#say(`. '${file}' &`, name);
    return { printed: () => this.#printed(name) };
  }

  end() {
    end(this.#bash.pid);
    running.delete(this.#bash.pid);
    return this.#bash.exitCode === null && this.#bash.signalCode === null ? once(this.#bash, 'close') : undefined;
  }

  #printed(name) {
    return readFile(join(this.#directory, `.printed-${name}`), 'utf8');
  }

  async #say(command, name) {
    this.#status = '';
    this.#bash.stdin.write(`{ ${command}\n} > .printed-${name} 2>&1 < /dev/null; echo $? >&3\n`);
    const answered = new Promise((resolve) => {
      this.#heard = () => this.#status.includes('\n') && resolve();
      this.#heard();
    });
    const late = pause(DEADLINE_MS, true, { ref: false });
    if (await Promise.race([answered, late])) throw new Error(`no end within ${DEADLINE_MS} ms: ${await this.#printed(name)}`);
    if (this.#status === 'ended\n') throw new Error('the shell ended');
    return Number(this.#status);
  }
}
