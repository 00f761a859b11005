/**
 * From a command to init's first line: `xeno create` through an agent beside `xeno run`, which is the domain's process itself.
 *
 *   npm run bench -- --create [--reps 9]
 *
 * The same kernel and initramfs, in turn, each until the line is read from the command's standard output. The agent runs already and has no
 * domain. Both find the translations that earlier runs of this benchmark left, as second and later domains do.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { INIT_MARKER } from "@xenoserver/toolstack/guest/index.ts";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { median } from "./summary.ts";
import { tied } from "./tied-process.ts";
import { within } from "./within.ts";

const XENO = fileURLToPath(new URL("../apps/cli/bin/xeno.mjs", import.meta.url));
const BOOT_SECONDS = 120;
const VERB_SECONDS = 30;
/** Until what one turn left has ended, and the process that the agent keeps ready has begun. */
const REST_MS = 4000;
/** They leave translations, and are not counted. */
const EARLIER_TURNS = 3;

type Way = "run" | "create";
const TITLES: Readonly<Record<Way, string>> = { run: "xeno run", create: "xeno create -c, by an agent" };

class Commands {
  readonly #env: NodeJS.ProcessEnv;
  readonly #settings: readonly string[];

  constructor(env: NodeJS.ProcessEnv, settings: readonly string[]) {
    this.#env = env;
    this.#settings = settings;
  }

  /** @returns milliseconds from the start of the command to init's line */
  async start(way: Way, name: string): Promise<number> {
    const begin = performance.now();
    const args = way === "run" ? ["run"] : ["create", "-c"];
    const child = this.#spawn([...args, `name=${name}`, ...this.#settings]);
    const ms = await within(BOOT_SECONDS, `${TITLES[way]}: init's first line`, shown(child)).then(
      () => performance.now() - begin,
    );
    const ended = new Promise((resolve) => child.once("close", resolve));
    if (way === "create") await this.verb("destroy", name);
    else child.kill();
    await within(VERB_SECONDS, `${TITLES[way]}: its end`, ended);
    return ms;
  }

  /** @throws Error  it fails, with what it said */
  async verb(...args: string[]): Promise<void> {
    const child = this.#spawn(args);
    let said = "";
    child.stderr!.on("data", (bytes: Buffer) => (said += bytes.toString()));
    const closed = new Promise((resolve) => child.once("close", resolve));
    const status = await within(VERB_SECONDS, `xeno ${args.join(" ")}`, closed);
    if (status !== 0) throw new Error(`xeno ${args.join(" ")}: status ${status}: ${said}`);
  }

  #spawn(args: readonly string[]): ChildProcess {
    const [program, rest] = tied(process.execPath, [XENO, ...args]);
    const child = spawn(program, rest, { stdio: "pipe", env: this.#env });
    child.stdin.on("error", () => {});
    return child;
  }
}

/** Settles when init has said its first line. @throws Error  the command ends before, with what it said */
function shown(child: ChildProcess): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let text = "";
  const take = (bytes: Buffer): void => {
    text += bytes.toString("latin1");
    if (text.includes(INIT_MARKER)) resolve();
  };
  child.stdout!.on("data", take);
  child.stderr!.on("data", take);
  child.once("close", (status) => reject(new Error(`the command ended with ${status}\n${text.slice(-1500)}`)));
  return promise;
}

/** @returns lines of a table */
export async function benchCreate(repetitions: number, progress: (line: string) => void): Promise<string[]> {
  const debian = await DebianGuest.open();
  if (typeof debian === "string") throw new Error(debian);
  const { kernel, ramdisk } = await debian.config({ packages: [] });
  const folder = mkdtempSync(join(tmpdir(), "xeno-cb-"));
  const [home, kept] = [join(folder, "agent"), join(folder, "translations")];
  const env = { ...process.env, XENO_AGENT_HOME: home, XENO_TRANSLATIONS: kept };
  const settings = [`kernel=${kernel}`, `ramdisk=${ramdisk}`, "memory=256", "cmdline=console=hvc0 quiet loglevel=3"];
  const commands = new Commands(env, settings);
  const found: Record<Way, number[]> = { run: [], create: [] };
  try {
    // Starts the agent.
    await commands.verb("list");
    for (let turn = -EARLIER_TURNS; turn < repetitions; turn++) {
      const ways: Way[] = turn % 2 === 0 ? ["run", "create"] : ["create", "run"];
      for (const way of ways) {
        const ms = await commands.start(way, `${way}${turn + EARLIER_TURNS}`);
        if (turn >= 0) found[way].push(ms);
        progress(`${TITLES[way]}: ${ms.toFixed(0)} ms${turn < 0 ? ", not counted" : ""}`);
        await sleep(REST_MS);
      }
    }
  } finally {
    await commands.verb("agent", "stop").catch((error: Error) => progress(error.message));
    rmSync(folder, { recursive: true, force: true });
  }
  const line = (title: string, value: string): string => `${title.padEnd(44)} ${value.padStart(8)}`;
  const of = (way: Way): number => median(found[way])!;
  const pairs = found.create.map((ms, turn) => ms / found.run[turn]!);
  return [
    `to init's first line, medians of ${repetitions}`,
    ...(["run", "create"] as const).map((way) => line(TITLES[way], `${of(way).toFixed(0)} ms`)),
    line("create over run, of medians", (of("create") / of("run")).toFixed(2)),
    line("create over run, median of turns", median(pairs)!.toFixed(2)),
  ];
}
