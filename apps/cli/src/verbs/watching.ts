/** Verbs that show what goes on: all domains by turns, one's messages, its xenstore's changes. */
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { type Command, InvalidArgumentError } from "commander";
import { type AddVerb, seconds } from "./verb.ts";

const access = () => import("../agent-access.ts");

const count = (written: string): number => {
  if (!/^[1-9]\d*$/.test(written)) throw new InvalidArgumentError("Expected a number above 0.");
  return Number(written);
};

export const addWatching: AddVerb = (program) => {
  addTop(program);
  program
    .command("dmesg")
    .description("what the hypervisor had to say of a domain")
    .argument("<domain>", "name or number")
    .action(async (ref: string) => {
      const { openAgent } = await access();
      const { log } = await (await openAgent()).get<{ log: string }>(`/v1/domains/${encodeURIComponent(ref)}/log`);
      process.stdout.write(log);
    });
  addStoreWatch(program);
};

interface TopOptions {
  readonly delay: number;
  readonly iterations?: number;
}

function addTop(program: Command): void {
  program
    .command("top")
    .description("what each domain uses, again and again, as xentop -b")
    .option("-d, --delay <seconds>", "from one look to the next", seconds, 3)
    .option("-i, --iterations <number>", "how many looks; without, until it is interrupted", count)
    .action(async ({ delay, iterations = Number.POSITIVE_INFINITY }: TopOptions) => {
      const [{ openAgent, say }, { describeTop }] = await Promise.all([access(), import("../domain-listing.ts")]);
      const agent = await openAgent();
      let before: { domains: readonly DomainInfo[]; atMs: number } | undefined;
      for (let n = 1; n <= iterations; n++) {
        const { domains } = await agent.get<{ domains: DomainInfo[] }>("/v1/domains");
        const now = { domains, atMs: performance.now() };
        if (process.stdout.isTTY) process.stdout.write("\x1b[H\x1b[2J");
        for (const line of describeTop(now, before)) say(line);
        before = now;
        if (n < iterations) await sleep(delay * 1000);
      }
    });
}

function addStoreWatch(program: Command): void {
  program
    .command("xenstore-watch")
    .description("print the paths that change at or below a path, until it is interrupted or the domain ends")
    .argument("<domain>", "whose xenstore")
    .argument("<path>", "such as /local/domain/1/device")
    .option(
      "-n, --count <number>",
      "how many changes to wait for, beside the first word that the watch is there",
      count,
    )
    .action(async (ref: string, path: string, options: { readonly count?: number }) => {
      const [{ openAgent, say }, { ExitError, ExitStatus }] = await Promise.all([
        access(),
        import("../exit-status.ts"),
      ]);
      const socket = await (await openAgent()).watch(ref, path);
      socket.on("error", () => {});
      let left = (options.count ?? Number.POSITIVE_INFINITY) + 1;
      for await (const line of createInterface({ input: socket })) {
        const change = JSON.parse(line) as { path: string } | { error: string };
        if ("error" in change) throw new ExitError(ExitStatus.failed, change.error);
        say(change.path);
        if (--left === 0) break;
      }
      socket.destroy();
    });
}
