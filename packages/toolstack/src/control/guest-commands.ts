/** Commands in a domain's guest, for clients of its control socket. A client that goes takes its commands with it. */
import type { GuestProcess, TerminalSize } from "../agent/index.ts";
import type { DomainHost } from "./domain-host.ts";
import { ControlError, type GuestCommand } from "./protocol.ts";
import type { ControlPeer } from "./server.ts";

/** How long a guest may take to answer for the first time; it may be starting. */
const READY_MS = 5000;
const SIGNALS = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM"] as const;

const commands = new WeakMap<ControlPeer, Map<string, GuestProcess>>();

/**
 * Starts a command whose output and end come as events with the token.
 * @returns its process id in the guest
 * @throws ControlError  the guest has no agent, or cannot start it
 */
export async function startCommand(host: DomainHost, token: string, command: GuestCommand, peer: ControlPeer) {
  const own = commandsOf(peer);
  if (own.has(token)) throw new ControlError("invalid", `token is "${token}", which a command of this client has`);
  const agent = await host.agent(command.readyMs ?? READY_MS);
  const process = asked(() => agent.start(command));
  own.set(token, process);
  let pid: number;
  try {
    pid = await process.started;
  } catch (error) {
    own.delete(token);
    throw new ControlError("conflict", `${command.args[0]}: ${(error as Error).message}`);
  }
  const outputs = (["stdout", "stderr"] as const).map((stream) => sendOutput(process, stream, token, peer));
  void Promise.all([process.exited, ...outputs])
    .then(
      ([exit]) => peer.send({ event: "exec-end", token, ...exit }),
      (error: Error) => peer.send({ event: "exec-end", token, error: error.message }),
    )
    .finally(() => own.delete(token));
  return { pid };
}

/** Hands input on; settles when the guest has room for more. */
export async function feedCommand(peer: ControlPeer, token: string, bytes: Uint8Array): Promise<void> {
  const { stdin } = commandOf(peer, token);
  // A command that has ended, or has closed its input, wants no more.
  if (stdin.destroyed || stdin.writableEnded) return;
  if (bytes.length === 0) {
    stdin.end();
    return;
  }
  await new Promise<void>((resolve) => {
    stdin.once("close", resolve);
    stdin.write(bytes, () => {
      stdin.off("close", resolve);
      resolve();
    });
  });
}

/** @throws ControlError  no such signal is sent */
export function signalCommand(peer: ControlPeer, token: string, name: string): void {
  const signal = SIGNALS.find((known) => known === name);
  if (signal === undefined)
    throw new ControlError("invalid", `signal is "${name}", expected one of ${SIGNALS.join(", ")}`);
  commandOf(peer, token).kill(signal);
}

/** Tells a command with a terminal how large it is now. @throws ControlError  there is no such command */
export function resizeCommand(peer: ControlPeer, token: string, size: TerminalSize): void {
  commandOf(peer, token).resize(size);
}

function commandsOf(peer: ControlPeer): Map<string, GuestProcess> {
  let own = commands.get(peer);
  if (own === undefined) {
    own = new Map();
    commands.set(peer, own);
    peer.onClose(() => {
      for (const process of own!.values()) process.kill("SIGKILL");
    });
  }
  return own;
}

function commandOf(peer: ControlPeer, token: string): GuestProcess {
  const process = commandsOf(peer).get(token);
  if (process === undefined) throw new ControlError("not-found", `command "${token}" does not run`);
  return process;
}

/** As fast as the client takes it; what it does not take holds the command up. */
async function sendOutput(
  process: GuestProcess,
  stream: "stdout" | "stderr",
  token: string,
  peer: ControlPeer,
): Promise<void> {
  for await (const bytes of process[stream] as AsyncIterable<Buffer>) {
    peer.send({ event: "exec-output", token, stream, base64: bytes.toString("base64") });
    if (peer.isFull) await new Promise<void>((resolve) => peer.onRoom(resolve));
  }
}

function asked<T>(use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw new ControlError("conflict", (error as Error).message);
  }
}
