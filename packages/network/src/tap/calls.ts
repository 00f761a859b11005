/** Linux's calls on network interfaces and descriptors, made through Node's own foreign functions: no code of ours is native. */
import { constants } from "node:os";

export interface HostCalls {
  /** @returns below 0 if it failed; `errno` tells why */
  ioctl(fd: number, request: bigint, argument: ArrayBuffer | bigint): number;
  fcntl(fd: number, command: number, argument: bigint): number;
  /** Reads into shared memory, which stays where it is. @returns bytes, or below 0 */
  read(fd: number, into: SharedArrayBuffer): number;
  /** A socket to ask the kernel about interfaces through. */
  openSocket(): number;
  /** @returns 0 if there is none of that name */
  indexOf(interfaceName: string): number;
  addressOf(buffer: ArrayBufferLike): bigint;
  /** Of the call before; nothing else may have been called since. */
  errno(): number;
}

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;

let known: HostCalls | null | undefined;

/** Undefined on other systems, and where Node was built without foreign functions. */
export function hostCalls(): HostCalls | undefined {
  if (known === undefined) known = open() ?? null;
  return known ?? undefined;
}

function open(): HostCalls | undefined {
  const ffi = process.platform === "linux" ? process.getBuiltinModule("node:ffi") : undefined;
  if (ffi === undefined) return undefined;
  const { ioctl, fcntl, read, socket, if_nametoindex, __errno_location } = ffi.dlopen(null, {
    ioctl: { arguments: ["i32", "u64", "pointer"], return: "i32" },
    fcntl: { arguments: ["i32", "i32", "u64"], return: "i32" },
    read: { arguments: ["i32", "pointer", "u64"], return: "i64" },
    socket: { arguments: ["i32", "i32", "i32"], return: "i32" },
    if_nametoindex: { arguments: ["pointer"], return: "u32" },
    __errno_location: { arguments: [], return: "pointer" },
  }).functions;
  // Node's types do not know that shared buffers are taken too.
  const addressOf = (buffer: ArrayBufferLike): bigint => ffi.getRawPointer(buffer as ArrayBuffer);
  let last: { readonly buffer: SharedArrayBuffer; readonly at: bigint } | undefined;
  return {
    ioctl: (fd, request, argument) => ioctl(fd, request, typeof argument === "bigint" ? argument : addressOf(argument)),
    fcntl,
    read: (fd, into) => {
      if (last?.buffer !== into) last = { buffer: into, at: addressOf(into) };
      return Number(read(fd, last.at, BigInt(into.byteLength)));
    },
    openSocket: () => socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
    indexOf: (name) => if_nametoindex(addressOf(cString(name))),
    addressOf,
    errno: () => ffi.getInt32(__errno_location()),
  };
}

function cString(text: string): ArrayBuffer {
  const bytes = new Uint8Array(Buffer.byteLength(text) + 1);
  bytes.set(Buffer.from(text));
  return bytes.buffer;
}

/** "EPERM" for 1. */
export const errnoName = (errno: number): string =>
  Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `error ${errno}`;
