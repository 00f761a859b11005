/** DHCP messages (RFC 2131, options of RFC 2132): the fields that a server reads and writes, and what a filter reads of its answers. */
import { addressAt, type IpAddress } from "./address.ts";
import { put32, u16, u32 } from "./bytes.ts";
import { type Mac, macAt, putMac } from "./ethernet.ts";

export const DhcpType = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  ack: 5,
  nak: 6,
  release: 7,
  inform: 8,
} as const;

export const DhcpOption = {
  pad: 0,
  subnetMask: 1,
  router: 3,
  dns: 6,
  hostName: 12,
  domainName: 15,
  mtu: 26,
  broadcast: 28,
  requestedIp: 50,
  leaseTime: 51,
  messageType: 53,
  serverId: 54,
  end: 255,
} as const;

const BOOT_REQUEST = 1;
const BOOT_REPLY = 2;
const COOKIE = 0x63825363;
const OPTIONS_AT = 240;
/** The shortest that some clients take. */
const MIN_REPLY_BYTES = 300;
const BROADCAST_FLAG = 0x8000;

export interface DhcpRequest {
  readonly type: number;
  readonly transaction: number;
  readonly mac: Mac;
  /** The address that the client has and uses; 0.0.0.0 if it has none. */
  readonly clientIp: IpAddress;
  readonly wantsBroadcast: boolean;
  readonly requestedIp?: IpAddress;
  readonly serverId?: IpAddress;
}

/** @returns undefined for what is no DHCP request of an Ethernet station */
export function parseDhcp(bytes: Uint8Array): DhcpRequest | undefined {
  if (bytes.length < OPTIONS_AT || bytes[0] !== BOOT_REQUEST || bytes[1] !== 1 || bytes[2] !== 6) return undefined;
  if (u32(bytes, 236) !== COOKIE) return undefined;
  const options = parseOptions(bytes);
  const type = options.get(DhcpOption.messageType);
  if (type?.length !== 1) return undefined;
  const address = (code: number): IpAddress | undefined => {
    const value = options.get(code);
    return value?.length === 4 ? addressAt(value, 0, 4) : undefined;
  };
  const requestedIp = address(DhcpOption.requestedIp);
  const serverId = address(DhcpOption.serverId);
  return {
    type: type[0],
    transaction: u32(bytes, 4),
    mac: macAt(bytes, 28),
    clientIp: addressAt(bytes, 12, 4),
    wantsBroadcast: (u16(bytes, 10) & BROADCAST_FLAG) !== 0,
    ...(requestedIp !== undefined && { requestedIp }),
    ...(serverId !== undefined && { serverId }),
  };
}

/** The address that a server has given to a station, by an acknowledgement. @returns undefined for anything else */
export function parseDhcpLease(bytes: Uint8Array): { readonly mac: Mac; readonly address: IpAddress } | undefined {
  if (bytes.length < OPTIONS_AT || bytes[0] !== BOOT_REPLY || u32(bytes, 236) !== COOKIE) return undefined;
  const type = parseOptions(bytes).get(DhcpOption.messageType);
  const address = addressAt(bytes, 16, 4);
  // Without an address it answers an inform.
  if (type?.length !== 1 || type[0] !== DhcpType.ack || address === "0.0.0.0") return undefined;
  return { mac: macAt(bytes, 28), address };
}

function parseOptions(bytes: Uint8Array): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at = OPTIONS_AT; at < bytes.length && bytes[at] !== DhcpOption.end; ) {
    if (bytes[at] === DhcpOption.pad) {
      at++;
      continue;
    }
    if (at + 2 > bytes.length || at + 2 + bytes[at + 1] > bytes.length) break;
    options.set(bytes[at], bytes.subarray(at + 2, at + 2 + bytes[at + 1]));
    at += 2 + bytes[at + 1];
  }
  return options;
}

/**
 * Builds the reply to a request.
 * @param yourIp  the client's address, 4 bytes; zeros for none
 */
export function buildDhcpReply(
  request: DhcpRequest,
  yourIp: Uint8Array,
  serverIp: Uint8Array,
  options: readonly (readonly [code: number, value: Uint8Array])[],
): Uint8Array {
  const optionBytes = options.reduce((sum, [, value]) => sum + 2 + value.length, 1);
  const reply = new Uint8Array(Math.max(MIN_REPLY_BYTES, OPTIONS_AT + optionBytes));
  reply.set([BOOT_REPLY, 1, 6, 0]);
  put32(reply, 4, request.transaction);
  if (request.wantsBroadcast) reply[10] = BROADCAST_FLAG >>> 8;
  reply.set(yourIp, 16);
  reply.set(serverIp, 20);
  putMac(reply, 28, request.mac);
  put32(reply, 236, COOKIE);
  let at = OPTIONS_AT;
  for (const [code, value] of options) {
    reply[at] = code;
    reply[at + 1] = value.length;
    reply.set(value, at + 2);
    at += 2 + value.length;
  }
  reply[at] = DhcpOption.end;
  return reply;
}
