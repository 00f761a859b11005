/** A network of the kernel's for a test alone, where it may make interfaces as it likes. */
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync } from "node:fs";
import { openTap } from "../tap/interface.ts";

const CLONE_NEWNET = 0x40000000;

/**
 * Moves this process's main thread, and what it starts from now on, into a network of its own, which ends with it. Only its loopback is there.
 * @returns  why that cannot be had, or taps not be made in it
 */
export function enterOwnNetwork(): string | undefined {
  if (process.platform !== "linux") return "taps are Linux's";
  if (process.getuid?.() !== 0) return "making interfaces takes root";
  if (spawnSync("ip", ["-V"]).status !== 0) return "iproute2 is not installed";
  const ffi = process.getBuiltinModule("node:ffi");
  if (ffi === undefined) return "this Node has no foreign functions";
  const { unshare } = ffi.dlopen(null, { unshare: { arguments: ["i32"], return: "i32" } }).functions;
  if (unshare(CLONE_NEWNET) !== 0) return "this host gives nobody a network of their own";
  ip("link set lo up");
  try {
    closeSync(openTap({}).fd);
  } catch (error) {
    return (error as Error).message;
  }
  return undefined;
}

/** Runs `ip`. @throws Error  with its words */
export const ip = (words: string): string => execFileSync("ip", words.split(" "), { encoding: "utf8", stdio: "pipe" });

/** Of all interfaces that are there. */
export const interfaceNames = (): string[] =>
  (JSON.parse(ip("-json link")) as { readonly ifname: string }[]).map(({ ifname }) => ifname);
