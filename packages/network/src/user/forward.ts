/** Ports of the host whose connections and datagrams go to a guest. */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { type AddressBlock, canonical, type IpAddress, parseAddress, versionOf } from "../wire/address.ts";
import type { IpPacket } from "../wire/ip.ts";
import { parseUdp } from "../wire/transport.ts";
import type { UserContext } from "./context.ts";
import type { GuestEnd, PeerEnd } from "./flow.ts";
import type { TcpNat } from "./tcp/nat.ts";
import { sendDatagram, udpHeader } from "./udp/send.ts";

/** One port of the host, and what is behind it. */
export interface Forward {
  readonly protocol: "tcp" | "udp";
  /** Address of the host to listen at. */
  readonly host: IpAddress;
  /** 0 for any that is free. */
  readonly hostPort: number;
  /** The guest's; undefined for the first address that DHCP gives away. */
  readonly guest?: IpAddress;
  readonly guestPort: number;
}

/** What a forward needs to find its guest, and to be seen by it. */
export interface ForwardContext {
  readonly user: UserContext;
  readonly tcp: TcpNat;
  readonly subnet: AddressBlock;
  readonly gateway: Uint8Array;
  /** The guest of forwards that name none. */
  readonly firstGuest: Uint8Array;
}

export interface OpenForward {
  readonly forward: Forward;
  /** The port listened at, also where any was asked for. */
  readonly hostPort: number;
  /** Takes a packet of the guest if it answers this forward's peer. */
  onPacket?(packet: IpPacket): boolean;
  close(): void;
}

/** @throws Error  the port cannot be listened at, with the reason */
export async function openForward(forward: Forward, context: ForwardContext): Promise<OpenForward> {
  try {
    return await (forward.protocol === "tcp" ? openTcp(forward, context) : openUdp(forward, context));
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new Error(`${forwardName(forward)}: ${REASONS[code ?? ""] ?? message}`, { cause });
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program listens there",
  EACCES: "this user may not listen there",
  EADDRNOTAVAIL: "this host does not have that address",
};

/** "tcp 127.0.0.1:2222" */
export const forwardName = ({ protocol, host, hostPort }: Forward): string => `${protocol} ${host}:${hostPort}`;

/** Takes as long as a guest may that is asked for its address: three seconds if there is none. */
async function guestOf(
  { guest }: Forward,
  { user, firstGuest, subnet }: ForwardContext,
): Promise<GuestEnd | undefined> {
  const bytes = guest === undefined ? firstGuest : parseAddress(guest);
  if (bytes === undefined || !subnet.holds(bytes, 0, versionOf(bytes))) return undefined;
  const address = bytes.join(".");
  const mac = await user.findMac(address);
  return mac === undefined ? undefined : { mac, address, bytes };
}

/** Whom the guest sees: the peer itself, if its answers to that address come here; else the gateway. */
function peerOf(address: string, { gateway, subnet }: ForwardContext): PeerEnd {
  const plain = canonical(address.replace(/^::ffff:(?=\d+\.)/, ""));
  const bytes = plain === undefined ? undefined : parseAddress(plain);
  const shown =
    bytes !== undefined && bytes.length === 4 && bytes[0] !== 127 && !subnet.holds(bytes, 0, 4) ? bytes : gateway;
  return { address: shown.join("."), bytes: shown };
}

async function openTcp(forward: Forward, context: ForwardContext): Promise<OpenForward> {
  const accept = async (socket: Socket): Promise<void> => {
    // Of whoever gives up while the guest is looked for.
    const ignore = (): void => {};
    socket.on("error", ignore);
    const peer = peerOf(socket.remoteAddress ?? "", context);
    const port = socket.remotePort ?? 0;
    const guest = await guestOf(forward, context);
    if (guest === undefined || socket.destroyed) return void socket.resetAndDestroy();
    socket.off("error", ignore);
    context.tcp.accept(socket, guest, forward.guestPort, peer, port);
  };
  const server: Server = createServer(
    { allowHalfOpen: true, pauseOnConnect: true },
    (socket: Socket) => void accept(socket),
  );
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(forward.hostPort, forward.host, () => {
      server.off("error", reject);
      server.on("error", (error) => context.user.log(`${forwardName(forward)}: ${error.message}`));
      resolve();
    });
  });
  const address = server.address();
  return {
    forward,
    hostPort: typeof address === "object" && address !== null ? address.port : forward.hostPort,
    close: () => void server.close(),
  };
}

const MAX_UDP_PEERS = 256;
/** Datagrams that wait while their guest is looked for. */
const MAX_WAITING = 16;

async function openUdp(forward: Forward, context: ForwardContext): Promise<OpenForward> {
  const socket = createSocket(forward.host.includes(":") ? "udp6" : "udp4");
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(forward.hostPort, forward.host, () => {
      socket.off("error", reject);
      socket.on("error", (error) => context.user.log(`${forwardName(forward)}: ${error.message}`));
      resolve();
    });
  });
  return new UdpForward(forward, context, socket);
}

class UdpForward implements OpenForward {
  readonly forward: Forward;
  readonly hostPort: number;
  readonly #context: ForwardContext;
  readonly #socket: UdpSocket;
  /** By the address and port that the guest sees. */
  readonly #peers = new Map<string, RemoteInfo>();
  #waiting = 0;

  constructor(forward: Forward, context: ForwardContext, socket: UdpSocket) {
    this.forward = forward;
    this.hostPort = socket.address().port;
    this.#context = context;
    this.#socket = socket;
    socket.on("message", (bytes, from) => void this.#onMessage(bytes, from));
  }

  async #onMessage(bytes: Uint8Array, from: RemoteInfo): Promise<void> {
    if (this.#waiting >= MAX_WAITING) return;
    this.#waiting++;
    const guest = await guestOf(this.forward, this.#context);
    this.#waiting--;
    if (guest === undefined) return;
    const peer = peerOf(from.address, this.#context);
    const key = `${peer.address} ${from.port}`;
    this.#peers.delete(key);
    if (this.#peers.size >= MAX_UDP_PEERS) this.#peers.delete(this.#peers.keys().next().value!);
    this.#peers.set(key, from);
    const { user } = this.#context;
    sendDatagram(user, udpHeader(user, guest, peer.bytes), from.port, this.forward.guestPort, bytes);
  }

  onPacket(packet: IpPacket): boolean {
    const datagram = parseUdp(packet);
    if (datagram?.sourcePort !== this.forward.guestPort || packet.version !== 4) return false;
    const at = packet.addressesAt + 4;
    const to = this.#peers.get(`${packet.frame.subarray(at, at + 4).join(".")} ${datagram.destinationPort}`);
    if (to === undefined) return false;
    this.#socket.send(datagram.payload, to.port, to.address, () => {});
    return true;
  }

  close(): void {
    this.#socket.close();
  }
}
