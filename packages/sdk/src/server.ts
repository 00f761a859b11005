/** Domains that an agent runs, of this machine or another: they outlive the program that made them. */
import { randomUUID } from "node:crypto";
import type { Duplex } from "node:stream";
import {
  AgentClient,
  AgentError,
  agentHome,
  type CreateDomain,
  credentialsOf,
  type DomainInfo,
  type ForkDomain,
  GuestSession,
  type MigrateDomain,
  type MigrationReport,
  operate,
  parseEndpoint,
  type RestoreDomain,
} from "@xenoserver/agent/index.ts";
import type { GuestCommand } from "@xenoserver/toolstack/control/index.ts";
import {
  DEFAULT_READY_MS,
  type Domain,
  type DomainSpec,
  type End,
  type ExecOptions,
  type ExecResult,
  type ForkOptions,
  type Host,
  type SnapshotReport,
  type Watching,
  wordsOf,
} from "./domain.ts";

export interface CreateOptions extends Watching {
  /** Start it even if the host seems to have too little memory free. */
  readonly overcommit?: boolean;
  /**
   * Whoever creates again under the same key within a day, this program or its next run, gets the domain that is there. A key of its own
   * if absent, under which the request is repeated when the agent is lost and comes back.
   */
  readonly idempotencyKey?: string;
}

export interface MigrateOptions extends Watching {
  readonly overcommit?: boolean;
  /** Memory is sent once; what the guest writes meanwhile follows when it runs there. */
  readonly postCopy?: boolean;
}

/** A domain under an agent. */
export interface AgentDomain extends Domain {
  fork(options?: ForkOptions): Promise<AgentDomain[]>;
  /**
   * Moves it to another server while it runs; this object is of no use then.
   * @returns the domain there, and what the move took
   * @throws AgentError  it runs on here, unless the message says otherwise
   */
  migrate(
    to: Server,
    options?: MigrateOptions,
  ): Promise<{ readonly domain: AgentDomain; readonly report: MigrationReport }>;
}

const AS_ROOT = { user: { uid: 0, gids: [0] }, cwd: "/" } as const;

export class Server implements Host {
  readonly #client: AgentClient;
  /** By which another server's agent finds it: a socket's path, or "HOST:PORT". */
  readonly address: string;

  private constructor(client: AgentClient, address: string) {
    this.#client = client;
    this.address = address;
  }

  /** This user's own, which has to run: any `xeno` command starts it. @throws AgentError  it does not */
  static async local(env: NodeJS.ProcessEnv = process.env): Promise<Server> {
    const { socket, folder } = agentHome(env);
    const client = new AgentClient(socket);
    if (!(await client.isThere()))
      throw new AgentError(502, `${folder}: no agent runs, expected one started by: xeno list`);
    return new Server(client, socket);
  }

  /** @param server  "HOST[:PORT]" of one that trusts the certificate in this user's folder @throws AgentError */
  static async remote(server: string, env: NodeJS.ProcessEnv = process.env): Promise<Server> {
    const home = agentHome(env);
    const credentials = credentialsOf(home);
    if (credentials === undefined) throw new AgentError(409, `${home.folder}: has no certificate for server ${server}`);
    const client = new AgentClient({ ...parseEndpoint(server), credentials });
    await client.get("/v1/agent");
    return new Server(client, server);
  }

  create(spec: DomainSpec, options: CreateOptions = {}): Promise<AgentDomain> {
    return this.#make({ spec: spec as CreateDomain["spec"] }, options);
  }
  restore(path: string, { name, ...options }: { name?: string } & CreateOptions = {}): Promise<AgentDomain> {
    return this.#make({ restore: path, ...(name !== undefined && { name }) }, options);
  }
  async #make(
    source: CreateDomain | RestoreDomain,
    { overcommit = false, idempotencyKey = randomUUID(), ...watching }: CreateOptions,
  ): Promise<AgentDomain> {
    const body = { ...source, overcommit };
    const info = await operate<DomainInfo>(this.#client, "/v1/domains", body, { ...watching, idempotencyKey });
    return new ServedDomain(this.#client, info);
  }

  async list(): Promise<AgentDomain[]> {
    const { domains } = await this.#client.get<{ domains: DomainInfo[] }>("/v1/domains");
    return domains.map((info) => new ServedDomain(this.#client, info));
  }
  /** @param ref  name or number @throws AgentError  there is none */
  async get(ref: string): Promise<AgentDomain> {
    return new ServedDomain(this.#client, await this.#client.get<DomainInfo>(`/v1/domains/${encodeURIComponent(ref)}`));
  }
}

class ServedDomain implements AgentDomain {
  readonly name: string;
  readonly uuid: string;
  readonly ended: Promise<End>;
  readonly #client: AgentClient;
  readonly #ref: string;

  constructor(client: AgentClient, { name, uuid, domid }: DomainInfo) {
    this.#client = client;
    this.name = name;
    this.uuid = uuid;
    this.#ref = String(domid);
    this.ended = client.get<End>(`/v1/domains/${domid}/end`);
    this.ended.catch(() => {});
  }

  #ask<T>(operation: string, body: unknown = {}): Promise<T> {
    return this.#client.post<T>(`/v1/domains/${this.#ref}/${operation}`, body);
  }
  #operate<T>(operation: string, body: unknown, watching: Watching = {}): Promise<T> {
    return operate<T>(this.#client, `/v1/domains/${this.#ref}/${operation}`, body, watching);
  }

  async exec(command: string | readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { env, cwd, stdin = "", readyMs = DEFAULT_READY_MS, signal } = options;
    const output: Record<"stdout" | "stderr", Uint8Array[]> = { stdout: [], stderr: [] };
    const asked = { args: wordsOf(command), readyMs, ...(env && { env }), ...(cwd !== undefined && { cwd }) };
    const session = await GuestSession.start(this.#client, this.#ref, asked, {
      stdin: piecesOf(stdin),
      onStdout: (bytes) => void output.stdout.push(bytes),
      onStderr: (bytes) => void output.stderr.push(bytes),
    });
    const kill = (): void => session.signal("SIGKILL");
    if (signal?.aborted === true) kill();
    signal?.addEventListener("abort", kill, { once: true });
    try {
      const status = await session.status;
      return { status, stdout: Buffer.concat(output.stdout), stderr: Buffer.concat(output.stderr) };
    } finally {
      signal?.removeEventListener("abort", kill);
    }
  }

  async writeFile(path: string, data: AsyncIterable<Uint8Array> | Uint8Array | string, mode = 0o644): Promise<void> {
    const command: GuestCommand = {
      ...AS_ROOT,
      args: [path, mode.toString(8)],
      builtin: "put",
      readyMs: DEFAULT_READY_MS,
    };
    const ignore = { onStdout: () => {}, onStderr: () => {} };
    const session = await GuestSession.start(this.#client, this.#ref, command, { stdin: piecesOf(data), ...ignore });
    checkErrno(await session.status, path);
  }

  async *readFile(path: string): AsyncGenerator<Uint8Array> {
    const pieces = new TransformStream<Uint8Array, Uint8Array>();
    const writer = pieces.writable.getWriter();
    const command: GuestCommand = { ...AS_ROOT, args: [path], builtin: "get", readyMs: DEFAULT_READY_MS };
    const session = await GuestSession.start(this.#client, this.#ref, command, {
      onStdout: (bytes) => writer.write(bytes).catch(() => {}),
      onStderr: () => {},
    });
    const closed = session.status.then(
      () => writer.close().catch(() => {}),
      (error) => writer.abort(error).catch(() => {}),
    );
    try {
      for await (const bytes of pieces.readable) yield bytes;
      await closed;
      checkErrno(await session.status, path);
    } finally {
      session.signal("SIGKILL");
    }
  }

  async *console(): AsyncGenerator<Uint8Array> {
    for await (const bytes of await this.consoleStream()) yield bytes as Uint8Array;
  }
  consoleStream(): Promise<Duplex> {
    return this.#client.console(this.#ref);
  }

  async type(text: string | Uint8Array): Promise<void> {
    await this.#ask("console-write", { base64: Buffer.from(text as string).toString("base64") });
  }
  async pause(): Promise<void> {
    await this.#ask("pause");
  }
  async unpause(): Promise<void> {
    await this.#ask("unpause");
  }
  async shutdown(): Promise<void> {
    await this.#ask("shutdown", { request: "poweroff" });
  }
  async destroy(): Promise<void> {
    await this.#ask("destroy");
  }
  snapshot(path: string, watching?: Watching): Promise<SnapshotReport> {
    return this.#operate("snapshot", { path }, watching);
  }
  async fork({ count = 1, name, ...watching }: ForkOptions = {}): Promise<AgentDomain[]> {
    const body: ForkDomain = { count, ...(name !== undefined && { name }), overcommit: true };
    const copies = await this.#operate<DomainInfo[]>("fork", body, watching);
    return copies.map((info) => new ServedDomain(this.#client, info));
  }
  async migrate(to: Server, { overcommit = false, postCopy = false, ...watching }: MigrateOptions = {}) {
    const body: MigrateDomain = { to: to.address, overcommit, postCopy };
    const report = await this.#operate<MigrationReport>("migrate", body, watching);
    return { domain: await to.get(this.name), report };
  }
}

async function* piecesOf(data: AsyncIterable<Uint8Array> | Uint8Array | string): AsyncGenerator<Uint8Array> {
  if (typeof data === "string") yield Buffer.from(data);
  else if (data instanceof Uint8Array) yield data;
  else yield* data;
}

function checkErrno(errno: number, path: string): void {
  if (errno !== 0) throw new AgentError(409, `${path}: the guest says errno ${errno}`);
}
