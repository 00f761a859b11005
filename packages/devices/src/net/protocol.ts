/**
 * The network interface's rings and flags. A packet is a row of slots; behind the first there may be extra slots that say
 * more about it, with neither id nor grant.
 *
 *     tx slot, 12 bytes   request   gref u32 · offset u16 · flags u16 · id u16 · size u16
 *                         response  id u16 · status i16
 *     rx slot, 8 bytes    request   id u16 · pad u16 · gref u32
 *                         response  id u16 · offset u16 · flags u16 · status i16 (size, or below zero)
 *     extra, in either    type u8 · flags u8 · GSO: size u16 · type u8 · pad u8 · features u16
 *                                              MCAST: address, 6 bytes
 *
 * A tx packet's first slot has the size of the whole; an rx packet's has its own.
 * @see xen/include/public/io/netif.h
 */

export const TX_SLOT_BYTES = 12;
export const RX_SLOT_BYTES = 8;

export const TxFlag = { csum_blank: 1, data_validated: 2, more_data: 4, extra_info: 8 } as const;
export const RxFlag = { data_validated: 1, csum_blank: 2, more_data: 4, extra_info: 8 } as const;

export const ExtraType = { GSO: 1, MCAST_ADD: 2, MCAST_DEL: 3, HASH: 4 } as const;
export const EXTRA_FLAG_MORE = 1;
export const GsoType = { TCPV4: 1, TCPV6: 2 } as const;

export const NetifStatus = { DROPPED: -2, ERROR: -1, OKAY: 0, NULL: 1 } as const;

/** Slots with data that one packet may have; more close the device. Frontends stay below 19. */
export const MAX_DATA_SLOTS = 20;
export const ETHERNET_HEADER_BYTES = 14;
/** What the 16-bit size of a packet's first slot can say. */
export const MAX_FRAME_BYTES = 0xffff;
export const MAX_QUEUES = 8;

export interface TxRequest {
  readonly gref: number;
  readonly offset: number;
  readonly flags: number;
  readonly id: number;
  readonly size: number;
}

/** @param slot  a copy of a tx slot */
export function readTxRequest(slot: DataView): TxRequest {
  return {
    gref: slot.getUint32(0, true),
    offset: slot.getUint16(4, true),
    flags: slot.getUint16(6, true),
    id: slot.getUint16(8, true),
    size: slot.getUint16(10, true),
  };
}
