/** Commands and files in the guests of domains that the agent runs. */
import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import { ownTerminal } from "../own-terminal.ts";
import { type AddVerb, seconds } from "./verb.ts";

interface ExecOptions {
  readonly interactive?: true;
  readonly terminal?: true;
  readonly env?: Readonly<Record<string, string>>;
  readonly workdir?: string;
  readonly wait: number;
}

const variable = (written: string, before: Readonly<Record<string, string>> = {}): Record<string, string> => {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(written) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError("Expected NAME=VALUE.");
  return { ...before, [name]: value };
};

export const addExec: AddVerb = (program, setStatus) => {
  program
    .command("exec")
    .description("run a command in a domain's guest, over a line that needs no network there")
    .argument("<domain>", "name or number")
    .argument("<command...>", "the program and its arguments, behind --")
    .option("-i, --interactive", "hand on what is typed; a pipe always is")
    .option("-t, --terminal", "give it a terminal, of this one's size and with its keys")
    .option("-e, --env <name=value>", "a variable of the command; may be repeated", variable)
    .option("-w, --workdir <folder>", "where the command runs")
    .option("--wait <seconds>", "how long the guest may take to answer", seconds, 5)
    .action(async (ref: string, args: string[], options: ExecOptions) => setStatus(await exec(ref, args, options)));
  addCopy(program);
};

async function exec(ref: string, args: readonly string[], options: ExecOptions): Promise<number> {
  const [{ openAgent }, { GuestSession }, { ExitError, ExitStatus }] = await Promise.all([
    import("../agent-access.ts"),
    import("@xenoserver/agent/index.ts"),
    import("../exit-status.ts"),
  ]);
  const { interactive, env, workdir, wait } = options;
  const { stdin, stdout, stderr } = process;
  if (options.terminal === true && !(stdin.isTTY && stdout.isTTY))
    throw new ExitError(ExitStatus.badConfig, "exec -t: input or output is no terminal, expected both to be one");
  const terminal = options.terminal === true ? ownTerminal() : undefined;
  const hasInput = interactive === true || terminal !== undefined || !stdin.isTTY;
  const write = (stream: NodeJS.WriteStream, bytes: Uint8Array): Promise<void> | undefined =>
    stream.write(bytes) ? undefined : new Promise((resolve) => void stream.once("drain", resolve));
  try {
    const session = await GuestSession.start(
      await openAgent(),
      ref,
      {
        args,
        readyMs: wait * 1000,
        ...(terminal !== undefined && { terminal: terminal.size() }),
        env: { ...terminal?.env, ...env },
        ...(workdir !== undefined && { cwd: workdir }),
      },
      {
        ...(hasInput && { stdin: stdin as AsyncIterable<Buffer> }),
        onStdout: (bytes) => write(stdout, bytes),
        onStderr: (bytes) => write(stderr, bytes),
      },
    );
    terminal?.onResize((size) => session.resize(size));
    // The command's own way to end; whoever loses patience closes the connection, which kills it.
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => session.signal(signal));
    return await session.status;
  } finally {
    terminal?.restore();
    stdin.destroy();
  }
}

function addCopy(program: Command): void {
  program
    .command("cp")
    .description("copy a file into a domain's guest or out of it, over a line that needs no network there")
    .argument("<source>", "a file here, DOMAIN:PATH, or - for standard input")
    .argument("<target>", "a file or folder here, DOMAIN:PATH, or - for standard output")
    .action(async (source: string, target: string) => {
      const [{ openAgent }, { copyEnd, copyIn, copyOut }, { ExitError, ExitStatus }] = await Promise.all([
        import("../agent-access.ts"),
        import("../guest-copy.ts"),
        import("../exit-status.ts"),
      ]);
      const [from, to] = [copyEnd(source), copyEnd(target)];
      if ((from.domain === undefined) === (to.domain === undefined))
        throw new ExitError(
          ExitStatus.badConfig,
          `cp ${source} ${target}: expected one of them to be in a domain, as DOMAIN:PATH`,
        );
      const agent = await openAgent();
      const done = showProgress();
      if (to.domain !== undefined) await copyIn(agent, from.path, { domain: to.domain, path: to.path }, done.add);
      else await copyOut(agent, { domain: from.domain!, path: from.path }, to.path, done.add);
      done.end();
    });
}

const SHOW_MS = 500;

/** On a terminal, how much was copied so far, for copies that take a while. */
function showProgress(): { add: (bytes: number) => void; end: () => void } {
  let [total, shownAt] = [0, performance.now() + SHOW_MS];
  let shown = false;
  return {
    add: (bytes) => {
      total += bytes;
      if (!process.stderr.isTTY || performance.now() < shownAt) return;
      shownAt = performance.now() + SHOW_MS;
      shown = true;
      process.stderr.write(`\r${(total / 1e6).toFixed(1)} MB`);
    },
    end: () => void (shown && process.stderr.write(`\r${(total / 1e6).toFixed(1)} MB\n`)),
  };
}
