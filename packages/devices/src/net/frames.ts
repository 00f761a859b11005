/**
 * The seam between a network device and whatever it is plugged into. Both ends of a cable look alike: each takes frames
 * from its peer, and says what kinds of unfinished frames it can take.
 */

/** An Ethernet frame on its way. */
export interface Frame {
  /** From the destination address on, without padding and check sequence. Nobody changes them once the frame was sent. */
  readonly bytes: Uint8Array;
  readonly checksum: ChecksumState;
  /**
   * For a frame that stands for a row of TCP segments: the payload bytes of each but the last. 0 for an ordinary frame.
   * Such a frame's checksum is "blank".
   */
  readonly segmentBytes: number;
}

/**
 * What the TCP or UDP checksum field holds. "full": a sum over the whole, to be checked by the receiver. "verified": the
 * same, known to be right. "blank": the pseudo-header's sum only, not complemented; the sender trusts the way.
 */
export type ChecksumState = "full" | "verified" | "blank";

/** Kinds of unfinished frames that an end takes. */
export interface Offloads {
  readonly blankIpv4: boolean;
  readonly blankIpv6: boolean;
  readonly segmentsIpv4: boolean;
  readonly segmentsIpv6: boolean;
}

export const NO_OFFLOADS: Offloads = { blankIpv4: false, blankIpv6: false, segmentsIpv4: false, segmentsIpv6: false };
export const ALL_OFFLOADS: Offloads = { blankIpv4: true, blankIpv6: true, segmentsIpv4: true, segmentsIpv6: true };

/** One end of a cable. Its methods are called by the other end, on the same thread, and do not throw. */
export interface Frames {
  /** May change while the device is being connected; senders look at it for each frame. */
  readonly offloads: Offloads;
  /** The other end; set by `plug`. */
  peer: Frames | undefined;
  /**
   * Takes a frame.
   * @returns  false if there was no room: the frame is lost unless its sender offers it again after `onRoom`
   */
  onFrame(frame: Frame): boolean;
  /** The peer, which refused a frame, has room again. */
  onRoom(): void;
  /** The cable was pulled out; `peer` is undefined from now on. */
  onUnplug?(): void;
}

/** Joins two ends. */
export function plug(a: Frames, b: Frames): void {
  a.peer = b;
  b.peer = a;
}

/** Parts an end from its peer, if it has one. */
export function unplug(end: Frames): void {
  const { peer } = end;
  if (peer === undefined) return;
  end.peer = undefined;
  peer.peer = undefined;
  end.onUnplug?.();
  peer.onUnplug?.();
}
