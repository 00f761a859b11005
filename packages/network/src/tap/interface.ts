/** A tap from its making to its place in a bridge: what root's `ip tuntap` and `ip link` do, by the kernel's own calls. */
import { closeSync, constants, openSync, readlinkSync } from "node:fs";
import { constants as osConstants, userInfo } from "node:os";
import { basename } from "node:path";
import { errnoName, type HostCalls, hostCalls } from "./calls.ts";
import { VNET_HEADER_BYTES } from "./vnet-header.ts";

export interface TapConfig {
  /** Of the interface on the host; without, the kernel counts: xeno0, xeno1, … One that is there already is taken as it is. */
  readonly name?: string;
  /** A bridge of the host that it becomes a port of. */
  readonly bridge?: string;
  /** Without, its bridge's. */
  readonly mtuBytes?: number;
}

export interface TapInterface {
  readonly fd: number;
  readonly name: string;
}

const DEVICE = "/dev/net/tun";
const PATTERN = "xeno%d";
/** Of a name, with the zero behind it. */
const NAME_BYTES = 16;
/** struct ifreq */
const REQUEST_BYTES = 40;

/** @see include/uapi/linux/if_tun.h */
const TUNSETIFF = 0x400454can;
const TUNSETOFFLOAD = 0x400454d0n;
const TUNSETVNETHDRSZ = 0x400454d8n;
const TunFlag = { tap: 0x2, noPacketInfo: 0x1000, vnetHeader: 0x4000 } as const;
/** Without ECN's: interfaces of Xen cannot say that a row of segments begins with a reduced window. */
const TunOffload = { checksum: 1, segmentsIpv4: 2, segmentsIpv6: 4 } as const;

/** @see include/uapi/linux/sockios.h */
const SIOCGIFFLAGS = 0x8913n;
const SIOCSIFFLAGS = 0x8914n;
const SIOCGIFMTU = 0x8921n;
const SIOCSIFMTU = 0x8922n;
const SIOCSIFHWADDR = 0x8924n;
const SIOCBRADDIF = 0x89a2n;
const InterfaceFlag = { up: 0x1, noArp: 0x80, multicast: 0x1000 } as const;

const ARPHRD_ETHER = 1;
/** As Xen's scripts have it: a bridge takes the lowest address of its ports for its own, which is never this one. */
const PORT_ADDRESS = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];

const { EPERM, EACCES, ENOENT, ENODEV, ENXIO, EBUSY, EINVAL, EOPNOTSUPP } = osConstants.errno;

/** Whether this host has an interface of that name; false where nobody can tell. */
export const hasInterface = (name: string): boolean =>
  Buffer.byteLength(name) < NAME_BYTES && (hostCalls()?.indexOf(name) ?? 0) !== 0;

/**
 * Opens a tap, which is gone when its descriptor is closed, unless it was there before.
 * @throws Error  it cannot be had, with what would help
 */
export function openTap(config: TapConfig): TapInterface {
  const calls = hostCalls();
  if (calls === undefined) throw new Error("a tap takes Linux, and a Node with foreign functions");
  const fd = openDevice();
  try {
    const isOurs = config.name === undefined || calls.indexOf(config.name) === 0;
    const name = attach(calls, fd, config.name ?? PATTERN);
    new Setting(calls, name).settle(config, isOurs);
    return { fd, name };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openDevice(): number {
  try {
    return openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    const { code, errno = 0 } = error as NodeJS.ErrnoException;
    if ([ENOENT, ENODEV, ENXIO].includes(-errno))
      throw new Error(`${DEVICE} is not there, expected it from the kernel's module tun: modprobe tun`);
    if ([EACCES, EPERM].includes(-errno))
      throw new Error(`may not open ${DEVICE}, expected root, or its rights changed`);
    throw new Error(`cannot open ${DEVICE}: ${code}`);
  }
}

/** @returns the interface's name */
function attach(calls: HostCalls, fd: number, wanted: string): string {
  const request = requestFor(wanted);
  new DataView(request).setUint16(NAME_BYTES, TunFlag.tap | TunFlag.noPacketInfo | TunFlag.vnetHeader, true);
  if (calls.ioctl(fd, TUNSETIFF, request) < 0) throw attachError(calls.errno(), wanted);
  set(calls, fd, TUNSETVNETHDRSZ, Int32Array.of(VNET_HEADER_BYTES).buffer, "its header's size");
  const offloads = TunOffload.checksum | TunOffload.segmentsIpv4 | TunOffload.segmentsIpv6;
  // The flags themselves are the argument here, not where they are.
  if (calls.ioctl(fd, TUNSETOFFLOAD, BigInt(offloads)) < 0) {
    throw new Error(`a tap's kernel does not take unfinished frames (${errnoName(calls.errno())})`);
  }
  return Buffer.from(request, 0, NAME_BYTES).toString().replace(/\0.*$/s, "");
}

/** A domain's process may have a user id without a name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.());
  }
}

function attachError(errno: number, name: string): Error {
  const user = userName();
  const example = name === PATTERN ? "NAME" : name;
  switch (errno) {
    case EPERM:
      return new Error(
        `may not make a tap, expected root, or one made for this user: ip tuntap add dev ${example} mode tap user ${user}, with vifname=${example}`,
      );
    case EBUSY:
      return new Error(`tap ${name} is in use by another domain or program`);
    case EINVAL:
      return new Error(`interface ${name} is no tap, or one of several queues, expected a tap of one`);
    default:
      return new Error(`cannot make tap ${name}: ${errnoName(errno)}`);
  }
}

function set(calls: HostCalls, fd: number, request: bigint, argument: ArrayBuffer, what: string): void {
  if (calls.ioctl(fd, request, argument) < 0) throw new Error(`cannot set ${what}: ${errnoName(calls.errno())}`);
}

function requestFor(name: string): ArrayBuffer {
  const request = new Uint8Array(REQUEST_BYTES);
  request.set(Buffer.from(name).subarray(0, NAME_BYTES - 1));
  return request.buffer;
}

/** What is set of an interface, through a socket. */
class Setting {
  readonly #calls: HostCalls;
  readonly #name: string;
  readonly #socket: number;

  constructor(calls: HostCalls, name: string) {
    this.#calls = calls;
    this.#name = name;
    this.#socket = calls.openSocket();
    if (this.#socket < 0) throw new Error(`no socket to set ${name} through: ${errnoName(calls.errno())}`);
  }

  /** Ends with the interface up, and in its bridge. @param isOurs  made just now, so that all of it is ours to set */
  settle({ bridge, mtuBytes }: TapConfig, isOurs: boolean): void {
    try {
      const mtu = mtuBytes ?? (isOurs && bridge !== undefined ? this.#mtuOf(bridge) : undefined);
      if (mtu !== undefined) this.#set(SIOCSIFMTU, (view) => view.setInt32(NAME_BYTES, mtu, true), `mtu ${mtu}`);
      if (bridge !== undefined) {
        if (isOurs) this.#beQuiet();
        this.#join(bridge);
      }
      this.#bringUp(isOurs && bridge !== undefined);
    } finally {
      closeSync(this.#socket);
    }
  }

  #mtuOf(bridge: string): number {
    const request = requestFor(bridge);
    set(this.#calls, this.#socket, SIOCGIFMTU, request, `tap ${this.#name}: bridge ${bridge} has no mtu`);
    return new DataView(request).getInt32(NAME_BYTES, true);
  }

  #beQuiet(): void {
    const fill = (view: DataView): void => {
      view.setUint16(NAME_BYTES, ARPHRD_ETHER, true);
      PORT_ADDRESS.forEach((byte, n) => view.setUint8(NAME_BYTES + 2 + n, byte));
    };
    this.#set(SIOCSIFHWADDR, fill, "its address");
  }

  #join(bridge: string): void {
    const already = this.#bridge();
    if (already === bridge) return;
    const index = this.#calls.indexOf(this.#name);
    const request = requestFor(bridge);
    new DataView(request).setInt32(NAME_BYTES, index, true);
    if (this.#calls.ioctl(this.#socket, SIOCBRADDIF, request) === 0) return;
    const errno = this.#calls.errno();
    if (errno === EBUSY && already !== undefined)
      throw new Error(`${this.#name} is in bridge ${already}, expected it in ${bridge}`);
    // It is in one, and as far as anybody tells here, in this.
    if (errno === EBUSY) return;
    if (errno === EOPNOTSUPP)
      throw new Error(`interface ${bridge} is no bridge, expected one: ip link add ${bridge} type bridge`);
    if (errno === EPERM)
      throw new Error(
        `may not put ${this.#name} into bridge ${bridge}, expected root to have done it: ip link set ${this.#name} master ${bridge}`,
      );
    throw new Error(`cannot put ${this.#name} into bridge ${bridge}: ${errnoName(errno)}`);
  }

  /** Whose port it is; undefined if of none, or nobody says. */
  #bridge(): string | undefined {
    try {
      return basename(readlinkSync(`/sys/class/net/${this.#name}/master`));
    } catch {
      return undefined;
    }
  }

  /** @param quiet  the host itself says nothing through it: it has its place on the bridge */
  #bringUp(quiet: boolean): void {
    const request = requestFor(this.#name);
    set(this.#calls, this.#socket, SIOCGIFFLAGS, request, "flags");
    const view = new DataView(request);
    const flags = view.getUint16(NAME_BYTES, true);
    const wanted = quiet
      ? (flags | InterfaceFlag.up | InterfaceFlag.noArp) & ~InterfaceFlag.multicast
      : flags | InterfaceFlag.up;
    if (wanted === flags) return;
    view.setUint16(NAME_BYTES, wanted, true);
    if (this.#calls.ioctl(this.#socket, SIOCSIFFLAGS, request) === 0) return;
    const errno = this.#calls.errno();
    if (errno === EPERM)
      throw new Error(`may not bring ${this.#name} up, expected root to have done it: ip link set ${this.#name} up`);
    throw new Error(`cannot bring ${this.#name} up: ${errnoName(errno)}`);
  }

  #set(request: bigint, fill: (view: DataView) => void, what: string): void {
    const argument = requestFor(this.#name);
    fill(new DataView(argument));
    set(this.#calls, this.#socket, request, argument, `${what} of ${this.#name}`);
  }
}
