/** What a vcpu's thread has of translations of earlier runs. */
import { type KnownIndex, KnownRegions } from "@xenoserver/cpu/kept/known-regions.ts";
import type { KnownModules } from "@xenoserver/cpu/kept/recall.ts";
import { readInto } from "../read-into.ts";
import { decodeHead, HEAD_BYTES, isHeadWhole } from "./record.ts";
import { moduleOf } from "./record-module.ts";

/** As any thread of the process can have it. */
export interface KnownHandle {
  /** What `TranslationFile.takeIndex` gave; of a module it knows where in the file its record begins. */
  readonly index: KnownIndex;
  /** Of the file. */
  readonly fd: number;
}

export class KeptModules implements KnownModules {
  readonly regions: KnownRegions;
  readonly #fd: number;
  readonly #onRead: (at: number, module: WebAssembly.Module) => void;
  /** One module at a time is read into it. */
  #room = new Uint8Array(new SharedArrayBuffer(256 * 1024));
  /** One module's head and regions at a time. */
  #described = new Uint8Array(4 * 1024);

  /** @param onRead  told each module that was read, and its record's place in the file */
  constructor({ index, fd }: KnownHandle, onRead: (at: number, module: WebAssembly.Module) => void) {
    this.regions = new KnownRegions(index);
    this.#fd = fd;
    this.#onRead = onRead;
  }

  read(number: number): WebAssembly.Module | undefined {
    const at = this.regions.addressOf(number);
    const shared = sharedOf(this.#fd);
    const known = shared.get(at)?.deref();
    if (known !== undefined) return known;
    const module = this.#readAt(at);
    if (module === undefined) return undefined;
    shared.set(at, new WeakRef(module));
    this.#onRead(at, module);
    return module;
  }

  describe(number: number): Int32Array | undefined {
    try {
      const at = this.regions.addressOf(number);
      let count = readInto(this.#fd, this.#described, at);
      const head = decodeHead(this.#described.subarray(0, count));
      if (head === undefined) return undefined;
      const sizeBytes = HEAD_BYTES + head.regionsBytes;
      if (sizeBytes > this.#described.length) {
        this.#described = new Uint8Array(sizeBytes);
        count = readInto(this.#fd, this.#described, at);
      }
      if (count < sizeBytes || !isHeadWhole(head, this.#described)) return undefined;
      return new Int32Array(this.#described.buffer, HEAD_BYTES, head.regionsBytes / 4);
    } catch {
      return undefined;
    }
  }

  #readAt(at: number): WebAssembly.Module | undefined {
    try {
      const headBytes = new Uint8Array(HEAD_BYTES);
      readInto(this.#fd, headBytes, at);
      const head = decodeHead(headBytes);
      if (head === undefined) return undefined;
      const { regionsBytes, moduleBytes, codeBytes } = head;
      const sizeBytes = moduleBytes + codeBytes;
      if (this.#room.length < sizeBytes) this.#room = new Uint8Array(new SharedArrayBuffer(sizeBytes));
      const body = this.#room.subarray(0, sizeBytes);
      if (readInto(this.#fd, body, at + HEAD_BYTES + regionsBytes) !== sizeBytes) return undefined;
      return moduleOf(head, body);
    } catch {
      return undefined;
    }
  }
}

/** What this thread has read of files, by file and place: its other domains, such as copies, need not read it again. */
const sharedByFile = new Map<number, Map<number, WeakRef<WebAssembly.Module>>>();
function sharedOf(fd: number): Map<number, WeakRef<WebAssembly.Module>> {
  const shared = sharedByFile.get(fd) ?? new Map<number, WeakRef<WebAssembly.Module>>();
  sharedByFile.set(fd, shared);
  return shared;
}
