/** Two network namespaces with a slow line between them, which loses packets. Takes root. */
import { type ChildProcess, fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "./programs.ts";

const PREFIX = "10.213.77";
const INTERFACE = "line";

const namespacesOf = (pid: number): string[] => ["l", "r"].map((side) => `xeno-${pid}-${side}`);

const remove = (namespaces: readonly string[]): void => {
  for (const name of namespaces) spawnSync("ip", ["netns", "del", name]);
};

export class FarLink {
  readonly namespaces: readonly string[];
  readonly #line: ChildProcess;

  private constructor(namespaces: readonly string[], line: ChildProcess) {
    this.namespaces = namespaces;
    this.#line = line;
  }

  static async open(): Promise<FarLink> {
    const names = namespacesOf(process.pid);
    const line = fork(join(import.meta.dirname, "far-line.ts"));
    const ended = once(line, "exit").then(() => Promise.reject(new Error("the line between the servers has ended")));
    ended.catch(() => {});
    try {
      const [taps] = (await Promise.race([once(line, "message"), ended])) as [string[]];
      for (const [index, name] of names.entries()) {
        await run(["ip", "netns", "add", name]);
        await run(["ip", "link", "set", taps[index]!, "netns", name, "name", INTERFACE]);
        const inside = ["ip", "-n", name];
        // So that a frame is a segment, and a loss the loss of one.
        await run([...inside, "link", "set", INTERFACE, "gso_max_segs", "1"]);
        await run([...inside, "addr", "add", `${PREFIX}.${index + 1}/24`, "dev", INTERFACE]);
        for (const device of ["lo", INTERFACE]) await run([...inside, "link", "set", device, "up"]);
      }
      return new FarLink(names, line);
    } catch (error) {
      line.kill();
      remove(names);
      throw error;
    }
  }

  /** Removes the namespaces of a process that is gone; its line has ended with it. */
  static removeOf(pid: number): void {
    remove(namespacesOf(pid).filter((name) => existsSync(join("/run/netns", name))));
  }

  /** Of a server, by its place. */
  static address(index: number): string {
    return `${PREFIX}.${index + 1}`;
  }

  /** Nothing goes over it for a while, and nobody is told. */
  async cut(forMs: number): Promise<void> {
    this.#line.send(true);
    await sleep(forMs);
    this.#line.send(false);
  }

  close(): void {
    this.#line.kill();
    remove(this.namespaces);
  }
}
