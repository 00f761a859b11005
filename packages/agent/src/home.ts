/** Where an agent keeps what it knows, and where it is found. */
import { mkdirSync, statSync } from "node:fs";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";

/** UNIX sockets' paths may not be longer, with the NUL behind them. */
const MAX_SOCKET_PATH_BYTES = 107;

/** What is wrong with what was asked of an agent; `status` is that of the HTTP answer. */
export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface AgentHome {
  readonly folder: string;
  readonly socket: string;
  readonly journal: string;
  readonly log: string;
  /** For disks that are files and came along with domains. */
  readonly disks: string;
  /** For processes that wait for domains. */
  readonly zygotes: string;
  /** Whether one is kept waiting while there are domains; otherwise one is started when it is needed. */
  readonly keepsZygote: boolean;
  /** Says where the control groups of processes are. */
  readonly groups: string;
  /** A folder of cgroupfs for them, instead of the agent's own group; "0" for none. */
  readonly cgroup: string | undefined;
  /** "FIRST-LAST": user ids for processes of root's agent, instead of others; "0" for none. */
  readonly uids: string | undefined;
  domain(domid: number): string;
}

/** `$XENO_AGENT_HOME`, or `$XDG_STATE_HOME/xenoserver`, or `~/.local/state/xenoserver`; `XENO_AGENT_ZYGOTE=0` saves memory, `XENO_AGENT_CGROUP` says where control groups are made, `XENO_AGENT_UIDS` which user ids are for domains. */
export function agentHome(env: NodeJS.ProcessEnv = process.env): AgentHome {
  const state = env["XDG_STATE_HOME"] || join(homedir(), ".local", "state");
  const folder = env["XENO_AGENT_HOME"] || join(state, "xenoserver");
  return {
    folder,
    socket: join(folder, "agent.sock"),
    journal: join(folder, "journal.sqlite"),
    log: join(folder, "agent.log"),
    disks: join(folder, "disks"),
    zygotes: join(folder, "zygotes"),
    keepsZygote: env["XENO_AGENT_ZYGOTE"] !== "0",
    groups: join(folder, "groups"),
    cgroup: env["XENO_AGENT_CGROUP"] || undefined,
    uids: env["XENO_AGENT_UIDS"] || undefined,
    domain: (domid) => join(folder, "domains", String(domid)),
  };
}

/** @throws AgentError  the folder is another user's, or its path is too long for a socket in it */
export function makeHome(home: AgentHome): void {
  mkdirSync(join(home.folder, "domains"), { recursive: true, mode: 0o700 });
  const { uid } = userInfo();
  if (statSync(home.folder).uid !== uid)
    throw new AgentError(500, `agent's folder ${home.folder} belongs to another user, expected this one`);
  const longest = Buffer.byteLength(join(home.domain(32751), "control.sock"));
  if (longest > MAX_SOCKET_PATH_BYTES)
    throw new AgentError(
      500,
      `agent's folder ${home.folder}: sockets in it have ${longest} bytes, expected ≤ ${MAX_SOCKET_PATH_BYTES}`,
    );
}
