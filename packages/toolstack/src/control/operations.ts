/** What a control socket's requests do. Arguments are somebody else's word: each is checked before use. */

import type { TerminalSize } from "../agent/index.ts";
import { SaveError } from "../save/index.ts";
import type { DomainHost, Tracked } from "./domain-host.ts";
import { feedCommand, resizeCommand, signalCommand, startCommand } from "./guest-commands.ts";
import {
  type AfterSave,
  ControlError,
  type GuestCommand,
  type OperationName,
  type ResultOf,
  type ShutdownRequest,
} from "./protocol.ts";
import type { ConsolePiece, Scrollback } from "./scrollback.ts";
import type { ControlPeer, Dispatch } from "./server.ts";

type Args = Readonly<Record<string, unknown>>;
type Handlers = {
  readonly [N in OperationName]: (
    host: DomainHost,
    args: Args,
    peer: ControlPeer,
  ) => ResultOf<N> | Promise<ResultOf<N>>;
};

const NOTHING = {};
const PIECE_BYTES = 16 * 1024;
const SHUTDOWN_REQUESTS: readonly ShutdownRequest[] = ["poweroff", "reboot", "halt", "suspend"];
const AFTER_SAVE: readonly AfterSave[] = ["destroy", "run", "pause"];
const NAME = /^[A-Za-z0-9][\w.+:-]{0,63}$/;

const HANDLERS: Handlers = {
  info: (host) => host.info(),
  follow: (host, _args, peer) => {
    peer.onClose(host.onEvent((event) => peer.send(event)));
    void host.ended.then((end) => peer.send({ event: "ended", end }));
    return host.info();
  },
  pause: async (host) => {
    await host.pause();
    return host.info();
  },
  unpause: async (host) => {
    await host.unpause();
    return host.info();
  },
  shutdown: (host, args) => {
    const request = text(args, "request") as ShutdownRequest;
    if (!SHUTDOWN_REQUESTS.includes(request))
      throw new ControlError("invalid", `request is "${request}", expected one of ${SHUTDOWN_REQUESTS.join(", ")}`);
    host.shutdown(request);
    return NOTHING;
  },
  sysrq: (host, args) => {
    const key = text(args, "key");
    if (!/^[0-9a-zA-Z]$/.test(key)) throw new ControlError("invalid", `key is "${key}", expected one letter or digit`);
    host.sysrq(key);
    return NOTHING;
  },
  destroy: async (host, args) => {
    await host.destroy(args["runsElsewhere"] === true);
    return NOTHING;
  },
  save: async (host, args, peer) => {
    const [path, next] = [text(args, "path"), text(args, "next") as AfterSave];
    if (!path.startsWith("/")) throw new ControlError("invalid", `path is "${path}", expected it from the root on`);
    if (!AFTER_SAVE.includes(next))
      throw new ControlError("invalid", `next is "${next}", expected one of ${AFTER_SAVE.join(", ")}`);
    try {
      return { bytes: await host.save(path, next, tracked(args, peer)) };
    } catch (error) {
      throw error instanceof SaveError ? new ControlError("conflict", error.message) : error;
    }
  },
  "save-outcome": (host, args) => host.saves.of(text(args, "token")),
  snapshot: (host, args, peer) => {
    const path = text(args, "path");
    if (!path.startsWith("/")) throw new ControlError("invalid", `path is "${path}", expected an absolute one`);
    return host.snapshot(path, tracked(args, peer));
  },
  migrate: (host, args, peer) => {
    const options = { copyStorage: args["copyStorage"] === true, postCopy: args["postCopy"] === true };
    return host.migrate(text(args, "socket"), options, tracked(args, peer));
  },
  cancel: (host, args) => {
    host.transfers.cancel(text(args, "token"));
    return NOTHING;
  },
  "exec-start": (host, args, peer) => startCommand(host, text(args, "token"), command(args["command"]), peer),
  "exec-input": async (_host, args, peer) => {
    await feedCommand(peer, text(args, "token"), Buffer.from(text(args, "base64"), "base64"));
    return NOTHING;
  },
  "exec-signal": (_host, args, peer) => {
    signalCommand(peer, text(args, "token"), text(args, "signal"));
    return NOTHING;
  },
  "exec-resize": (_host, args, peer) => {
    resizeCommand(peer, text(args, "token"), terminalSize(args["size"]));
    return NOTHING;
  },
  rename: (host, args) => {
    const name = text(args, "name");
    if (!NAME.test(name))
      throw new ControlError("invalid", `name is "${name}", expected up to 64 letters, digits or any of _.+:-`);
    host.settings.rename(name);
    return host.info();
  },
  "memory-set": (host, args) => {
    host.settings.setMemory(integer(args, "targetBytes"));
    return host.info();
  },
  "vcpu-set": (host, args) => {
    host.settings.setVcpus(integer(args, "count"));
    return host.info();
  },
  "vcpu-pin": async (host, args) => {
    const vcpu = args["vcpu"] === "all" ? "all" : integer(args, "vcpu");
    await host.settings.pinVcpus(vcpu, text(args, "cpus"));
    return host.info();
  },
  "weight-set": async (host, args) => {
    await host.settings.setWeight(integer(args, "weight"));
    return host.info();
  },
  "cap-set": (host, args) => {
    host.settings.setCap(integer(args, "percent"));
    return host.info();
  },
  "block-attach": async (host, args) => {
    await host.settings.attachDisk(text(args, "disk"));
    return host.info();
  },
  "block-detach": async (host, args) => ({ agreed: await host.settings.detachDisk(text(args, "vdev")) }),
  "network-attach": async (host, args) => ({ devid: await host.settings.attachVif(text(args, "vif")) }),
  "network-detach": async (host, args) => ({ agreed: await host.settings.detachVif(integer(args, "devid")) }),
  "console-follow": (host, args, peer) => {
    const { console } = host;
    const begin = args["from"] === undefined ? console.begin : integer(args, "from");
    // Behind the reply, so that the client knows what it is sent.
    setImmediate(() => followConsole(console, begin, peer));
    return { begin, end: console.end };
  },
  "console-read": ({ console }) => pieceOf(console.read(console.begin, console.end - console.begin)),
  "console-write": async (host, args) => {
    await host.type(Buffer.from(text(args, "base64"), "base64"));
    return NOTHING;
  },
  "xenstore-read": (host, args) => ({ value: host.store.read(text(args, "path")) ?? null }),
  "xenstore-list": (host, args) => ({ names: host.store.list(text(args, "path")) }),
  "xenstore-tree": (host, args) => ({ nodes: host.store.tree(text(args, "path")) }),
  "xenstore-write": (host, args) => {
    host.store.write(text(args, "path"), text(args, "value"));
    return NOTHING;
  },
  "xenstore-rm": (host, args) => {
    host.store.rm(text(args, "path"));
    return NOTHING;
  },
  "xenstore-chmod": (host, args) => {
    const { permissions } = args;
    if (!Array.isArray(permissions) || permissions.length === 0 || permissions.some((item) => typeof item !== "string"))
      throw new ControlError("invalid", 'permissions are none, expected a list such as ["n0","r1"]');
    host.store.setPermissions(text(args, "path"), permissions as string[]);
    return NOTHING;
  },
  "xenstore-watch": (host, args, peer) => {
    const token = text(args, "token");
    peer.onClose(host.store.watch(text(args, "path"), (path) => peer.send({ event: "xenstore", token, path })));
    return NOTHING;
  },
  "usage-sample": (host) => {
    host.meter.record("asked");
    return NOTHING;
  },
  "usage-forget": (host, args) => {
    host.meter.forget(integer(args, "upToSeq"));
    return NOTHING;
  },
};

export function operationsOf(host: DomainHost): Dispatch {
  return async (op, args, peer) => {
    if (!Object.hasOwn(HANDLERS, op))
      throw new ControlError("invalid", `op is "${op}", expected one of ${Object.keys(HANDLERS).join(", ")}`);
    if (typeof args !== "object" || args === null) throw new ControlError("invalid", `${op}: args are no object`);
    return HANDLERS[op as OperationName](host, args as Args, peer);
  };
}

/** Sends the console from an offset on, as fast as the client takes it. */
function followConsole(console: Scrollback, from: number, peer: ControlPeer): void {
  let offset = from;
  let waiting = false;
  const pump = (): void => {
    while (!waiting && offset < console.end) {
      const piece = console.read(offset, PIECE_BYTES);
      offset = piece.offset + piece.bytes.length;
      peer.send({ event: "console", ...pieceOf(piece) });
      if (!peer.isFull) continue;
      waiting = true;
      peer.onRoom(() => {
        waiting = false;
        pump();
      });
    }
  };
  peer.onClose(console.onAppend(pump));
  pump();
}

/** By what a client follows what it asked for, and can take it back. */
function tracked(args: Args, peer: ControlPeer): Tracked {
  if (args["token"] === undefined) return { tell: () => {} };
  const token = text(args, "token");
  return { token, tell: (progress) => peer.send({ event: "progress", token, progress }) };
}

const pieceOf = ({ offset, bytes }: ConsolePiece) => ({ offset, base64: Buffer.from(bytes).toString("base64") });

/** @throws ControlError  it is none */
function command(value: unknown): GuestCommand {
  const { args, env, cwd, user, builtin, readyMs, terminal } = (value ?? {}) as Partial<
    Record<keyof GuestCommand, unknown>
  >;
  const isText = (item: unknown): item is string => typeof item === "string" && !item.includes("\0");
  const refuse = (what: string, expected: string): never => {
    throw new ControlError("invalid", `command: ${what}, expected ${expected}`);
  };
  if (!Array.isArray(args) || args.length === 0 || !args.every(isText))
    return refuse("args are none", "a list of words");
  if (env !== undefined && !(typeof env === "object" && env !== null && Object.values(env).every(isText)))
    return refuse("env is no object of strings", '{"NAME":"VALUE"}');
  if (cwd !== undefined && !isText(cwd)) return refuse("cwd is no path", "one");
  if (builtin !== undefined && builtin !== "put" && builtin !== "get")
    return refuse("builtin is unknown", "put or get");
  if (readyMs !== undefined && !(typeof readyMs === "number" && readyMs >= 0))
    return refuse("readyMs is no time", "ms");
  const size = terminal === undefined ? undefined : terminalSize(terminal);
  const ids = user as Partial<NonNullable<GuestCommand["user"]>> | undefined;
  if (ids !== undefined && !(Number.isInteger(ids?.uid) && Array.isArray(ids.gids) && ids.gids.every(Number.isInteger)))
    return refuse("user is none", '{"uid":0,"gids":[0]}');
  return {
    args,
    ...(env !== undefined && { env: env as Record<string, string> }),
    ...(cwd !== undefined && { cwd }),
    ...(ids !== undefined && { user: ids as NonNullable<GuestCommand["user"]> }),
    ...(builtin !== undefined && { builtin }),
    ...(readyMs !== undefined && { readyMs }),
    ...(size !== undefined && { terminal: size }),
  };
}

/** @throws ControlError */
function terminalSize(value: unknown): TerminalSize {
  const { columns, rows } = (value ?? {}) as Partial<Record<keyof TerminalSize, unknown>>;
  const isSize = (item: unknown): item is number => Number.isInteger(item) && Number(item) >= 0 && Number(item) < 65536;
  if (isSize(columns) && isSize(rows)) return { columns, rows };
  throw new ControlError("invalid", `terminal is ${JSON.stringify(value)}, expected such as {"columns":80,"rows":24}`);
}

function text(args: Args, key: string): string {
  const value = args[key];
  if (typeof value !== "string")
    throw new ControlError("invalid", `${key} is ${JSON.stringify(value)}, expected a string`);
  return value;
}

function integer(args: Args, key: string): number {
  const value = args[key];
  if (!Number.isSafeInteger(value))
    throw new ControlError("invalid", `${key} is ${JSON.stringify(value)}, expected a whole number`);
  return value as number;
}
