/**
 * A network interface in xl's syntax: "key=value,…", see xl-network-configuration(5). `bridge=` names a switch of ours, or a bridge
 * of the host. Beside xl's keys there are some of our own:
 *
 *     net=user        a network of its own behind this process's sockets; the default without bridge=
 *     net=passt       the same through the program passt
 *     net=tap         an interface of the host, called vifname=, in the host's bridge= if that is said; takes root, or a tap of this user's
 *     net=none        a cable with nothing at its other end
 *     subnet=BLOCK    of net=user, 10.0.2.0/24 by default
 *     forward=[tcp:|udp:][ADDRESS:]PORT:GUESTPORT   a port of the host that leads to the guest; may be repeated
 *     host=1          lets the guest reach this host, under its gateway's address too
 *     allow=BLOCK, deny=BLOCK                       of addresses outside; may be repeated, also with bridge= and net=tap
 *     accept=tcp:PORT, accept=udp:PORT, accept=none  what others may begin with the guest; may be repeated
 *     antispoof=0     lets the guest send under addresses that are not its own
 */
import { randomBytes } from "node:crypto";
import type { Rate } from "@xenoserver/devices";
import type { AcceptRule, Forward } from "@xenoserver/network";
import { AddressBlock, canonical, type IpAddress } from "@xenoserver/network/wire/address.ts";
import { formatMac, isStation, type Mac, parseMac } from "@xenoserver/network/wire/ethernet.ts";
import { Complaint, listOf } from "./readers.ts";

export interface VifSpec {
  readonly mac: Mac;
  readonly network: NetworkSpec;
  /** The guest's addresses; if there are any, it may use no others. */
  readonly addresses: readonly IpAddress[];
  readonly antispoof: boolean;
  /** What others may begin with the guest; without, anything. */
  readonly accept?: readonly AcceptRule[];
  readonly rate?: Rate;
  readonly mtuBytes?: number;
  /** Keys of xl that have no effect here. */
  readonly ignored: readonly string[];
}

export type NetworkSpec =
  | {
      readonly kind: "user" | "passt";
      readonly subnet?: AddressBlock;
      readonly forwards: readonly Forward[];
      readonly host: boolean;
      readonly allow: readonly AddressBlock[];
      readonly deny: readonly AddressBlock[];
    }
  | {
      readonly kind: "bridge";
      /** Of a switch of ours; if there is none, of a bridge of the host. */
      readonly name: string;
      /** What the interface on the host is called, if it is one of the host's bridges. */
      readonly vifname?: string;
      readonly allow: readonly AddressBlock[];
      readonly deny: readonly AddressBlock[];
    }
  | {
      readonly kind: "tap";
      /** Of the host. */
      readonly bridge?: string;
      readonly vifname?: string;
      readonly allow: readonly AddressBlock[];
      readonly deny: readonly AddressBlock[];
    }
  | { readonly kind: "none" };

/** Whether others may be on its network. */
export const isShared = ({ network: { kind } }: VifSpec): boolean => kind === "bridge" || kind === "tap";

/** Understood and without effect: there is nothing emulated, and no script is run. */
const IGNORED = ["model", "type", "accel", "gatewaydev", "script", "trusted"];
const USER_KEYS = ["subnet", "forward", "host"];
const REPEATED = ["forward", "allow", "deny", "accept"];
const KEYS = [
  "mac",
  "bridge",
  "vifname",
  "ip",
  "rate",
  "mtu",
  "backend",
  "net",
  "antispoof",
  "accept",
  "allow",
  "deny",
  ...USER_KEYS,
  ...IGNORED,
];

type Fields = ReadonlyMap<string, readonly string[]>;

export const readVifs = listOf("a string", parseVif);

/** @throws Complaint */
export function parseVif(text: string): VifSpec {
  const fields = split(text);
  const one = (key: string): string | undefined => fields.get(key)?.[0];
  const backend = one("backend");
  if (backend !== undefined && backend !== "0" && backend !== "Domain-0") {
    throw new Complaint(`has backend=${backend}, expected 0: backends are in this process`);
  }
  const rate = one("rate");
  const mtu = one("mtu");
  const accept = fields.get("accept");
  const antispoof = flag("antispoof", one("antispoof"), true);
  if (accept !== undefined && !antispoof) throw new Complaint("has accept= and antispoof=0, expected one of them");
  const network = networkOf(fields);
  const hasName = network.kind === "bridge" || network.kind === "tap";
  return {
    mac: macOf(one("mac")),
    network,
    addresses: (one("ip") ?? "").split(/\s+/).filter(Boolean).map(addressOf),
    antispoof,
    ...(accept !== undefined && { accept: accept.filter((text) => text !== "none").map(acceptOf) }),
    ignored: [...(hasName ? [] : ["vifname"]), ...IGNORED].filter((key) => fields.has(key)),
    ...(rate !== undefined && { rate: rateOf(rate) }),
    ...(mtu !== undefined && { mtuBytes: mtuOf(mtu) }),
  };
}

function split(text: string): Fields {
  const fields = new Map<string, string[]>();
  for (const part of text.split(",").map((part) => part.trim())) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    const key = equals === -1 ? part : part.slice(0, equals).trim();
    if (equals === -1 || !KEYS.includes(key)) throw new Complaint(`has ${part}, expected one of ${KEYS.join("=, ")}=`);
    const known = fields.get(key);
    if (known !== undefined && !REPEATED.includes(key)) throw new Complaint(`has two values for ${key}, expected one`);
    fields.set(key, [...(known ?? []), part.slice(equals + 1).trim()]);
  }
  return fields;
}

/** Xen's part of the address space, as xl chooses from. */
const XEN_PREFIX = 0x00163e;

/** An address that most likely nobody has. */
export const freshMac = (): Mac => XEN_PREFIX * 2 ** 24 + (randomBytes(4).readUInt32BE() & 0x7fffff);

function macOf(text: string | undefined): Mac {
  if (text === undefined) return freshMac();
  const mac = parseMac(text);
  if (mac !== undefined && isStation(mac)) return mac;
  throw new Complaint(`has mac=${text}, expected a station's address such as 00:16:3e:12:34:56`);
}

function networkOf(fields: Fields): NetworkSpec {
  const bridge = fields.get("bridge")?.[0];
  const net = fields.get("net")?.[0] ?? (bridge === undefined ? "user" : "bridge");
  const own = USER_KEYS.filter((key) => fields.has(key));
  const blocks = (key: string): AddressBlock[] => (fields.get(key) ?? []).map((text) => blockOf(key, text));
  const rules = { allow: blocks("allow"), deny: blocks("deny") };
  if (bridge !== undefined || net === "tap") return wiredOf(fields, net, bridge, rules);
  if (net === "none" && own.length === 0) return { kind: "none" };
  if (net !== "user" && net !== "passt") throw new Complaint(`has net=${net}, expected user, passt, tap or none`);
  const subnet = fields.get("subnet")?.[0];
  return {
    kind: net,
    ...(subnet !== undefined && { subnet: blockOf("subnet", subnet) }),
    forwards: (fields.get("forward") ?? []).map(forwardOf),
    host: flag("host", fields.get("host")?.[0], false),
    ...rules,
  };
}

/** On a switch or a bridge, or an interface of the host. */
function wiredOf(
  fields: Fields,
  net: string,
  bridge: string | undefined,
  rules: Pick<Extract<NetworkSpec, { kind: "bridge" }>, "allow" | "deny">,
): NetworkSpec {
  const at = bridge === undefined ? "net=tap" : `bridge=${bridge}`;
  if (net !== "bridge" && net !== "tap") throw new Complaint(`has net=${net} and ${at}, expected one of them`);
  const own = USER_KEYS.find((key) => fields.has(key));
  if (own !== undefined) throw new Complaint(`has ${own}= and ${at}, expected it with net=user`);
  if (bridge !== undefined && !/^[A-Za-z0-9][\w.-]{0,31}$/.test(bridge))
    throw new Complaint(`has bridge=${bridge}, expected a name such as xenbr0`);
  const vifname = fields.get("vifname")?.[0];
  if (vifname !== undefined && !/^[A-Za-z0-9][\w.-]{0,14}$/.test(vifname))
    throw new Complaint(`has vifname=${vifname}, expected a name of at most 15 letters, such as vif1.0`);
  const named = { ...rules, ...(vifname !== undefined && { vifname }) };
  return net === "tap"
    ? { kind: "tap", ...named, ...(bridge !== undefined && { bridge }) }
    : { kind: "bridge", name: bridge!, ...named };
}

function flag(key: string, text: string | undefined, absent: boolean): boolean {
  if (text === undefined) return absent;
  if (text === "0" || text === "1") return text === "1";
  throw new Complaint(`has ${key}=${text}, expected 0 or 1`);
}

function addressOf(text: string): IpAddress {
  const address = canonical(text);
  if (address === undefined) throw new Complaint(`has ip=${text}, expected an address`);
  return address;
}

function blockOf(key: string, text: string): AddressBlock {
  const block = AddressBlock.parse(text);
  if (block === undefined) throw new Complaint(`has ${key}=${text}, expected a block such as 10.0.0.0/8`);
  return block;
}

const MTU = { min: 576, max: 65_000 } as const;

function mtuOf(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= MTU.min && value <= MTU.max) return value;
  throw new Complaint(`has mtu=${text}, expected ${MTU.min} to ${MTU.max}`);
}

const FORWARD = /^(?:(tcp|udp):)?(?:(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:.]+\]):)?(\d{1,5}):(\d{1,5})$/i;

function forwardOf(text: string): Forward {
  const match = FORWARD.exec(text);
  const host = match === null ? undefined : canonical((match[2] ?? "127.0.0.1").replaceAll(/[[\]]/g, ""));
  const [hostPort, guestPort] = [Number(match?.[3]), Number(match?.[4])];
  if (match === null || host === undefined || hostPort > 0xffff || guestPort > 0xffff || guestPort === 0) {
    throw new Complaint(`has forward=${text}, expected [tcp:|udp:][ADDRESS:]PORT:GUESTPORT`);
  }
  return { protocol: match[1]?.toLowerCase() === "udp" ? "udp" : "tcp", host, hostPort, guestPort };
}

function acceptOf(text: string): AcceptRule {
  const match = /^(tcp|udp):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port < 1 || port > 0xffff) {
    throw new Complaint(`has accept=${text}, expected tcp:PORT, udp:PORT or none`);
  }
  return { protocol: match[1] as "tcp" | "udp", port };
}

const RATE = /^(\d+)([kmg]?)(b)\/s(?:@(\d+)(s|ms|us)?)?$/i;
const MULTIPLES: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, g: 1e9 };
const MILLISECONDS: Readonly<Record<string, number>> = { s: 1000, ms: 1, us: 0.001 };
const DEFAULT_WINDOW_MS = 50;

/** "10Mb/s", "500KB/s@20ms": b for bits, B for bytes, and how often what may be sent is topped up. */
function rateOf(text: string): Rate {
  const match = RATE.exec(text);
  const bytesPerSecond =
    match === null ? 0 : (Number(match[1]) * MULTIPLES[match[2]!.toLowerCase()]!) / (match[3] === "b" ? 8 : 1);
  const windowMs = match?.[4] === undefined ? DEFAULT_WINDOW_MS : Number(match[4]) * MILLISECONDS[match[5] ?? "us"]!;
  const bytesPerWindow = Math.floor((bytesPerSecond * windowMs) / 1000);
  if (bytesPerWindow < 1 || windowMs < 1) {
    throw new Complaint(`has rate=${text}, expected such as 10Mb/s or 500KB/s@20ms`);
  }
  return { bytesPerWindow, windowMs };
}

/** The interface in the words of xl.cfg. */
export function describeVif(vif: VifSpec): string {
  const { network, rate } = vif;
  const parts = [`mac=${formatMac(vif.mac)}`];
  if (network.kind === "bridge") parts.push(`bridge=${network.name}`);
  else parts.push(`net=${network.kind}`);
  if (network.kind === "tap" && network.bridge !== undefined) parts.push(`bridge=${network.bridge}`);
  if ("vifname" in network) parts.push(`vifname=${network.vifname}`);
  if (vif.addresses.length > 0) parts.push(`ip=${vif.addresses.join(" ")}`);
  if (vif.mtuBytes !== undefined) parts.push(`mtu=${vif.mtuBytes}`);
  if (rate !== undefined) {
    const bytesPerSecond = Math.round((rate.bytesPerWindow * 1000) / rate.windowMs);
    parts.push(`rate=${bytesPerSecond}B/s@${Math.round(rate.windowMs * 1000)}us`);
  }
  if (vif.accept?.length === 0) parts.push("accept=none");
  for (const { protocol, port } of vif.accept ?? []) parts.push(`accept=${protocol}:${port}`);
  if (!vif.antispoof) parts.push("antispoof=0");
  if (network.kind === "user" || network.kind === "passt") {
    if (network.subnet !== undefined) parts.push(`subnet=${network.subnet}`);
    for (const { protocol, host, hostPort, guestPort } of network.forwards) {
      parts.push(`forward=${protocol}:${host.includes(":") ? `[${host}]` : host}:${hostPort}:${guestPort}`);
    }
    if (network.host) parts.push("host=1");
  }
  if (network.kind !== "none") {
    for (const block of network.allow) parts.push(`allow=${block}`);
    for (const block of network.deny) parts.push(`deny=${block}`);
  }
  return parts.join(",");
}
