/**
 * Messages of the xenstore protocol: a 16-byte header and up to 4096 bytes of payload.
 * @see xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt
 */
import { XS_HEADER_BYTES, XsType } from "@xenoserver/xen/abi/xs-wire.ts";

export interface Message {
  /** XS_*; a request's type may be any number. */
  readonly type: number;
  readonly requestId: number;
  /** 0: outside a transaction. */
  readonly transactionId: number;
  readonly payload: Uint8Array;
}

/** Header fields from 16 bytes. */
export function decodeHeader(bytes: Uint8Array): Omit<Message, "payload"> & { lengthBytes: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, XS_HEADER_BYTES);
  return {
    type: view.getUint32(0, true),
    requestId: view.getUint32(4, true),
    transactionId: view.getUint32(8, true),
    lengthBytes: view.getUint32(12, true),
  };
}

export function encodeMessage(message: Message): Uint8Array {
  const bytes = new Uint8Array(XS_HEADER_BYTES + message.payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, message.type, true);
  view.setUint32(4, message.requestId, true);
  view.setUint32(8, message.transactionId, true);
  view.setUint32(12, message.payload.length, true);
  bytes.set(message.payload, XS_HEADER_BYTES);
  return bytes;
}

/** The reply to a request: same type, same ids. */
export function replyTo(request: Message, payload: Uint8Array): Message {
  return { type: request.type, requestId: request.requestId, transactionId: request.transactionId, payload };
}

/** The reply that carries an error's name. */
export function errorReply(request: Message, name: string): Message {
  return { ...replyTo(request, strings([name])), type: XsType.ERROR };
}

/** What a client gets when a watch of its fires. */
export function watchEvent(path: string, token: string): Message {
  return { type: XsType.WATCH_EVENT, requestId: 0, transactionId: 0, payload: strings([path, token]) };
}

/** Bytes ↔ text without loss: one character per byte. */
export function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Of a character beyond 0xff, the low byte. */
export function toBytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

/** Strings, each ended by a zero byte. */
export function strings(list: readonly string[]): Uint8Array {
  return toBytes(list.map((text) => `${text}\0`).join(""));
}

/** The strings of a payload that consists of nothing else; undefined if the last one is not ended. */
export function parseStrings(payload: Uint8Array): string[] | undefined {
  if (payload.length === 0 || payload[payload.length - 1] !== 0) return undefined;
  return toText(payload.subarray(0, -1)).split("\0");
}

/** A string and the raw bytes after it; undefined if the string is not ended. */
export function parseStringAndRest(payload: Uint8Array): { text: string; rest: Uint8Array } | undefined {
  const end = payload.indexOf(0);
  return end < 0 ? undefined : { text: toText(payload.subarray(0, end)), rest: payload.slice(end + 1) };
}
