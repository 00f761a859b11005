/** The way to the agent: starts one if none runs. */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { AgentClient, type AgentHome, agentHome } from "@xenoserver/agent/index.ts";
import { ExitError, ExitStatus } from "./exit-status.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
const START_POLLS = 600;
const POLL_MS = 50;

/** @param home  of another agent than this user's */
export async function openAgent(home: AgentHome = agentHome()): Promise<AgentClient> {
  const client = new AgentClient(home.socket);
  if (await client.isThere()) return client;
  mkdirSync(home.folder, { recursive: true, mode: 0o700 });
  const log = openSync(home.log, "a", 0o600);
  const args = [...process.execArgv, MAIN, "agent", "run"];
  const child = spawn(process.execPath, args, {
    detached: true,
    cwd: "/",
    stdio: ["ignore", log, log],
    env: { ...process.env, XENO_AGENT_HOME: home.folder },
  });
  child.on("error", () => {});
  child.unref();
  closeSync(log);
  for (let n = 0; n < START_POLLS; n++) {
    if (await client.isThere()) return client;
    // Another command may have started one at the same moment; then this one ends, and that one answers.
    await sleep(POLL_MS);
  }
  throw new ExitError(ExitStatus.failed, `the agent did not start; ${home.log} may say why`);
}

// Whoever reads only the first lines, as head(1), ends the command as SIGPIPE would.
process.stdout.on("error", () => process.exit(ExitStatus.outputGone));

export const say = (line: string): void => void process.stdout.write(`${line}\n`);
export const sayJson = (value: unknown): void => say(JSON.stringify(value));
