/** What guests talk to over their network: processes of their own, so that they take no time of a machine's. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { tied } from "./tied-process.ts";

export interface HostServers {
  stop(): void;
}

/** Echoes what it gets, as soon as it gets it. */
const ECHO = `require("node:net").createServer({ noDelay: true }, (socket) => socket.pipe(socket).on("error", () => {}))
  .listen(7007, "127.0.0.1")`;

export async function startServers(progress: (line: string) => void): Promise<HostServers> {
  const children: ChildProcess[] = [spawn(...tied(process.execPath, ["-e", ECHO]), { stdio: "ignore" })];
  if (spawnSync("iperf3", ["--version"]).error === undefined) {
    children.push(spawn(...tied("iperf3", ["-s", "-B", "127.0.0.1"]), { stdio: "ignore" }));
  } else progress("iperf3 is not installed; on Debian: apt-get install iperf3. Its rows will fail.");
  await new Promise((resolve) => setTimeout(resolve, 500));
  return { stop: () => children.forEach((child) => void child.kill()) };
}
