/** Domains that an agent runs, of this machine or another: they outlive the program that made them. */
import {
  AgentClient,
  AgentError,
  agentHome,
  credentialsOf,
  GuestSession,
  parseEndpoint,
} from "@xenoserver/agent/index.ts";
import type { DomainInfo, GuestCommand } from "@xenoserver/toolstack/control/index.ts";
import {
  DEFAULT_READY_MS,
  type Domain,
  type DomainSpec,
  type End,
  type ExecOptions,
  type ExecResult,
  type Host,
  type SnapshotReport,
  wordsOf,
} from "./domain.ts";

const AS_ROOT = { user: { uid: 0, gids: [0] }, cwd: "/" } as const;

export class Server implements Host {
  readonly #client: AgentClient;

  private constructor(client: AgentClient) {
    this.#client = client;
  }

  /** This user's own, which has to run: any `xeno` command starts it. @throws AgentError  it does not */
  static async local(env: NodeJS.ProcessEnv = process.env): Promise<Server> {
    const { socket, folder } = agentHome(env);
    const client = new AgentClient(socket);
    if (!(await client.isThere()))
      throw new AgentError(502, `${folder}: no agent runs, expected one started by: xeno list`);
    return new Server(client);
  }

  /** @param server  "HOST[:PORT]" of one that trusts the certificate in this user's folder @throws AgentError */
  static async remote(server: string, env: NodeJS.ProcessEnv = process.env): Promise<Server> {
    const home = agentHome(env);
    const credentials = credentialsOf(home);
    if (credentials === undefined) throw new AgentError(409, `${home.folder}: has no certificate for server ${server}`);
    const client = new AgentClient({ ...parseEndpoint(server), credentials });
    await client.get("/v1/agent");
    return new Server(client);
  }

  async create(spec: DomainSpec, { overcommit = false } = {}): Promise<Domain> {
    return new ServedDomain(this.#client, await this.#client.post<DomainInfo>("/v1/domains", { spec, overcommit }));
  }
  async restore(
    path: string,
    { name, overcommit = false }: { name?: string; overcommit?: boolean } = {},
  ): Promise<Domain> {
    const body = { restore: path, name, overcommit };
    return new ServedDomain(this.#client, await this.#client.post<DomainInfo>("/v1/domains", body));
  }
  async list(): Promise<Domain[]> {
    const { domains } = await this.#client.get<{ domains: DomainInfo[] }>("/v1/domains");
    return domains.map((info) => new ServedDomain(this.#client, info));
  }
  /** @param ref  name or number @throws AgentError  there is none */
  async get(ref: string): Promise<Domain> {
    return new ServedDomain(this.#client, await this.#client.get<DomainInfo>(`/v1/domains/${encodeURIComponent(ref)}`));
  }
}

class ServedDomain implements Domain {
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
    const socket = await this.#client.console(this.#ref);
    for await (const bytes of socket) yield bytes as Uint8Array;
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
  snapshot(path: string): Promise<SnapshotReport> {
    return this.#ask("snapshot", { path });
  }
  async fork({ count = 1, name }: { readonly count?: number; readonly name?: string } = {}): Promise<Domain[]> {
    const copies = await this.#ask<DomainInfo[]>("fork", { count, name, overcommit: true });
    return copies.map((info) => new ServedDomain(this.#client, info));
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
