/** What the parts of a user-mode network share. */
import type { Frame, Offloads } from "@xenoserver/devices/net/frames.ts";
import type { IpAddress } from "../wire/address.ts";
import type { Mac } from "../wire/ethernet.ts";
import type { IpPacket } from "../wire/ip.ts";
import type { Egress } from "./egress.ts";

export interface UserContext {
  /** The gateway's, from which every frame to a guest comes. */
  readonly mac: Mac;
  readonly mtuBytes: number;
  readonly egress: Egress;
  /** Where names are asked for, "ADDRESS" or "ADDRESS:PORT" as `dns.getServers` gives them. Asked each time. */
  readonly resolvers: () => readonly string[];
  offloads(): Offloads;
  /** @returns false if the guest's device has no room */
  send(frame: Frame): boolean;
  /** Tells a guest that its packet came to nothing; says nothing about packets that are answers themselves. */
  reject(packet: IpPacket, code: number): void;
  /** The MAC address of a guest, which is asked for it if it was not heard of; undefined if it does not answer. */
  findMac(address: IpAddress): Promise<Mac | undefined>;
  log(message: string): void;
}
