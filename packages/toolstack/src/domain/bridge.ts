/** Switches that the domains of one host plug into, each in a process of its own and known by a name. */
import { mkdirSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { plug } from "@xenoserver/devices";
import {
  EthernetSwitch,
  type Forward,
  hasInterface,
  serveSwitch,
  UserNetwork,
  type UserNetworkConfig,
} from "@xenoserver/network";
import { filesOwner } from "@xenoserver/storage/file-owner.ts";
import { ConfigError } from "../cfg/index.ts";

/** The socket of a bridge; only its user may open it. */
export function bridgePath(name: string, env: NodeJS.ProcessEnv = process.env): string {
  const folder = env["XDG_RUNTIME_DIR"] || join(tmpdir(), `xenoserver-${filesOwner() ?? userInfo().uid}`);
  return join(folder, "xenoserver", "bridges", `${name}.sock`);
}

export interface BridgeOptions {
  /** A gateway to the world on one of its ports. */
  readonly userNetwork?: UserNetworkConfig;
  readonly log: (message: string) => void;
}

export interface Bridge {
  readonly path: string;
  readonly forwards: readonly Forward[];
  close(): Promise<void>;
}

/**
 * Starts a bridge.
 * @throws ConfigError  there is one of that name, or its network cannot be had
 */
export async function openBridge(name: string, { userNetwork, log }: BridgeOptions): Promise<Bridge> {
  const path = bridgePath(name);
  const folder = join(path, "..");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (statSync(folder).uid !== userInfo().uid) {
    throw new ConfigError(`bridge ${name}: ${folder} belongs to another user, expected this one`);
  }
  if (await isServed(path)) throw new ConfigError(`bridge ${name} is there already`);
  if (hasInterface(name))
    throw new ConfigError(`bridge ${name}: this host has an interface of that name, expected another`);
  // What is left of a bridge that was killed.
  rmSync(path, { force: true });
  const bridge = new EthernetSwitch();
  let network: UserNetwork | undefined;
  try {
    if (userNetwork !== undefined) network = await UserNetwork.open({ ...userNetwork, log });
    if (network !== undefined) plug(bridge.addPort(), network);
    const stopListening = await serveSwitch(bridge, path, log);
    return {
      path,
      forwards: network?.forwards.map(({ forward, hostPort }) => ({ ...forward, hostPort })) ?? [],
      close: async () => {
        stopListening();
        bridge.close();
        network?.close();
      },
    };
  } catch (cause) {
    network?.close();
    throw new ConfigError(`bridge ${name}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (served: boolean): void => {
      socket.destroy();
      resolve(served);
    };
    socket.on("connect", () => end(true)).on("error", () => end(false));
  });
}
