/** The way to the agent: starts one if none runs. */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { AgentClient, type AgentHome, agentHome, credentialsOf, parseEndpoint } from "@xenoserver/agent/index.ts";
import { ExitError, ExitStatus } from "./exit-status.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
const START_POLLS = 600;
const POLL_MS = 50;

/** The agent that `$XENO_AGENT` names as HOST[:PORT], or this user's own, which is started if none runs. */
export function openAgent(): Promise<AgentClient> {
  const remote = process.env["XENO_AGENT"];
  return remote === undefined || remote === "" ? openAgentOf(agentHome()) : openRemote(remote);
}

/** @throws ExitError, AgentError  it cannot be reached, or does not let us in */
async function openRemote(written: string): Promise<AgentClient> {
  const home = agentHome();
  const credentials = credentialsOf(home);
  if (credentials === undefined)
    throw new ExitError(
      ExitStatus.failed,
      `${home.folder}: has no certificate for server ${written}, expected one made by: xeno agent init, or invite`,
    );
  const client = new AgentClient({ ...parseEndpoint(written), credentials });
  await client.get("/v1/agent");
  return client;
}

/** An agent of this machine. */
export async function openAgentOf(home: AgentHome): Promise<AgentClient> {
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
