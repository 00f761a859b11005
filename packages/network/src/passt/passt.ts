/**
 * A user-mode network by the program passt: faster than ours where it is installed, as it is native code, and it knows
 * IPv6. It is a child of this process and speaks frames over its file descriptor 3.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import type { Frames } from "@xenoserver/devices/net/frames.ts";
import { FrameStream } from "../switch/frame-stream.ts";
import type { Forward } from "../user/forward.ts";

export interface PasstConfig {
  readonly program?: string;
  readonly forwards: readonly Forward[];
  /** Let the guest reach this host's loopback under the gateway's address. */
  readonly host: boolean;
  readonly mtuBytes?: number;
  readonly log: (message: string) => void;
}

export interface Passt {
  readonly end: Frames;
  /** Ends the program. */
  close(): Promise<void>;
}

const CABLE_FD = 3;
/** A program that does not like its arguments says so and ends within this. */
const START_MS = 300;

/** @throws Error  the program is missing or does not start; with its words */
export async function startPasst(config: PasstConfig): Promise<Passt> {
  const { program = "passt", log } = config;
  const child = spawn(program, passtArguments(config), { stdio: ["ignore", "ignore", "pipe", "pipe"] });
  let words = "";
  child.stderr!.on("data", (bytes: Buffer) => {
    words = (words + bytes.toString()).slice(-2000);
  });
  const socket = child.stdio[CABLE_FD] as Socket;
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error: NodeJS.ErrnoException) =>
      resolve(
        error.code === "ENOENT" ? `${program} is not installed; on Debian: apt-get install passt` : error.message,
      ),
    );
    child.once("exit", (status, signal) =>
      resolve(`${program} ended with ${signal ?? `status ${status}`}: ${lastWords(words)}`),
    );
  });
  const problem = await Promise.race([ended, new Promise<undefined>((resolve) => setTimeout(resolve, START_MS))]);
  if (problem !== undefined) {
    socket.destroy();
    throw new Error(problem);
  }
  let closing = false;
  void ended.then((reason) => closing || log(reason));
  return {
    end: new FrameStream(socket, "plain", () => {}),
    close: async () => {
      closing = true;
      await stop(child, ended);
    },
  };
}

const lastWords = (words: string): string =>
  words
    .split("\n")
    .filter((line) => line !== "" && !line.includes("syslog"))
    .at(-1) ?? "without a word";

function passtArguments({ forwards, host, mtuBytes }: PasstConfig): string[] {
  const options = ["--foreground", "--quiet", "--fd", String(CABLE_FD)];
  if (mtuBytes !== undefined) options.push("--mtu", String(mtuBytes));
  if (!host) options.push("--no-map-gw");
  for (const { protocol, host: address, hostPort, guestPort } of forwards) {
    options.push(protocol === "tcp" ? "--tcp-ports" : "--udp-ports", `${address}/${hostPort}:${guestPort}`);
  }
  return options;
}

async function stop(child: ChildProcess, ended: Promise<string>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill();
  await ended;
}
