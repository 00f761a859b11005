/**
 * A domain as one thread sees it: views over the control block, and the guest's memory. Every vcpu's thread and the
 * backends' thread have a `Domain` of their own over the same two buffers.
 */
import type { Frame, Gfn, GuestMemory } from "@xenoserver/cpu";
import type { ShutdownReason } from "../abi/sched.ts";
import { type DomId, SHARED_INFO_32, SHARED_INFO_64, type SharedInfoLayout, VCPU_INFO_BYTES } from "../abi/xen.ts";
import { GuestWords } from "./guest-words.ts";
import {
  CONTROL_BLOCK_BYTES,
  CONTROL_MAGIC,
  CONTROL_VERSION,
  Field,
  MAX_FIFO_PAGES,
  MAX_GRANT_FRAMES,
  MAX_SPECIAL_FRAMES,
  MAX_VCPUS,
  VcpuField,
} from "./layout.ts";
import { VcpuRecord } from "./vcpu-record.ts";

export interface DomainConfig {
  readonly domid: number;
  /** 1 ≤ nrVcpus ≤ 8. */
  readonly nrVcpus: number;
  /** 16 bytes that XENVER_guest_handle returns; zero if absent. */
  readonly uuid?: Uint8Array;
}

export class Domain {
  readonly buffer: SharedArrayBuffer;
  readonly i32: Int32Array;
  readonly f64: Float64Array;
  readonly memory: GuestMemory;
  readonly guest: GuestWords;
  readonly vcpus: readonly VcpuRecord[];
  readonly domid: DomId;

  private constructor(buffer: SharedArrayBuffer, memory: GuestMemory) {
    this.buffer = buffer;
    this.i32 = new Int32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.memory = memory;
    this.guest = new GuestWords(memory);
    this.domid = this.i32[Field.domid] as DomId;
    const nrVcpus = this.i32[Field.nrVcpus];
    this.vcpus = Array.from({ length: nrVcpus }, (_, id) => new VcpuRecord(id, this.i32, this.f64));
  }

  /**
   * Makes a new control block and takes the shared information frame from memory.
   * @throws RangeError  for a vcpu count that the control block cannot hold
   */
  static create(config: DomainConfig, memory: GuestMemory): Domain {
    const { domid, nrVcpus } = config;
    if (!Number.isInteger(nrVcpus) || nrVcpus < 1 || nrVcpus > MAX_VCPUS) {
      throw new RangeError(`dom${domid}: ${nrVcpus} vcpus, expected 1 to ${MAX_VCPUS}`);
    }
    const buffer = new SharedArrayBuffer(CONTROL_BLOCK_BYTES);
    const i32 = new Int32Array(buffer);
    i32[Field.magic] = CONTROL_MAGIC;
    i32[Field.version] = CONTROL_VERSION;
    i32[Field.domid] = domid;
    i32[Field.nrVcpus] = nrVcpus;
    i32[Field.sharedInfoGfn] = -1;
    i32.fill(-1, Field.grantFrames, Field.grantFrames + MAX_GRANT_FRAMES);
    i32.fill(-1, Field.grantGfns, Field.grantGfns + MAX_GRANT_FRAMES);
    i32.fill(-1, Field.specialFrames, Field.specialFrames + MAX_SPECIAL_FRAMES);
    i32.fill(-1, Field.fifoFrames, Field.fifoFrames + MAX_FIFO_PAGES);
    const domain = new Domain(buffer, memory);
    if (config.uuid !== undefined) domain.setUuid(config.uuid);
    domain.setSharedInfoFrame(memory.allocateFrame());
    for (const vcpu of domain.vcpus) {
      vcpu.reset();
      domain.placeVcpuInfo(vcpu, -1, 0);
    }
    return domain;
  }

  /**
   * Joins a domain that another thread made.
   * @throws TypeError  if the buffer is not a control block of this version
   */
  static attach(buffer: SharedArrayBuffer, memory: GuestMemory): Domain {
    const header = new Int32Array(buffer, 0, 2);
    if (header[Field.magic] !== CONTROL_MAGIC || header[Field.version] !== CONTROL_VERSION) {
      throw new TypeError(`control block: version ${header[Field.version]}, expected ${CONTROL_VERSION}`);
    }
    return new Domain(buffer, memory);
  }

  /** A field of the domain; see `Field`. */
  get(field: number): number {
    return Atomics.load(this.i32, field);
  }

  /** A field that holds an index into `guest.words`, which may be beyond 2^31. */
  wordAt(field: number): number {
    return this.get(field) >>> 0;
  }

  set(field: number, value: number): void {
    Atomics.store(this.i32, field, value);
  }

  /** Offsets for the guest's word size, as last seen by `latchWordSize`. */
  get sharedInfoLayout(): SharedInfoLayout {
    return this.i32[Field.sharedInfo32] === 1 ? SHARED_INFO_32 : SHARED_INFO_64;
  }

  /** Notes whether the guest runs 64-bit code, at the calls where Xen does. */
  latchWordSize(is64: boolean): void {
    this.set(Field.sharedInfo32, is64 ? 0 : 1);
  }

  setSharedInfoFrame(frame: Frame): void {
    this.set(Field.sharedInfoFrame, frame);
    this.set(Field.sharedInfoWord, this.guest.wordOf(frame));
  }

  get sharedInfoFrame(): Frame {
    return this.get(Field.sharedInfoFrame) as Frame;
  }

  /** @param uuid  16 bytes */
  setUuid(uuid: Uint8Array): void {
    new Uint8Array(this.buffer).set(uuid.subarray(0, 16), Field.uuid * 4);
  }

  /**
   * Says where a vcpu's `vcpu_info` lies.
   * @param frame   −1: in the shared information page
   * @param offset  bytes into the frame
   */
  placeVcpuInfo(vcpu: VcpuRecord, frame: number, offset: number): void {
    const inShared = frame === -1;
    const first = inShared ? this.wordAt(Field.sharedInfoWord) : this.guest.wordOf(frame as Frame);
    const bytes = inShared ? vcpu.id * VCPU_INFO_BYTES : offset;
    vcpu.set(VcpuField.vcpuInfoOffset, bytes);
    vcpu.set(VcpuField.vcpuInfoWord, first + (bytes >>> 2));
    vcpu.set(VcpuField.vcpuInfoFrame, frame);
  }

  /** The frame that holds a vcpu's `vcpu_info` now. */
  vcpuInfoFrame(vcpu: VcpuRecord): Frame {
    const frame = vcpu.get(VcpuField.vcpuInfoFrame);
    return frame === -1 ? this.sharedInfoFrame : (frame as Frame);
  }

  /** The low and high half of an HVM parameter, as unsigned numbers. */
  hvmParam(index: number): { lo: number; hi: number } {
    const at = Field.hvmParams + index * 2;
    return { lo: this.get(at) >>> 0, hi: this.get(at + 1) >>> 0 };
  }

  setHvmParam(index: number, lo: number, hi: number): void {
    const at = Field.hvmParams + index * 2;
    this.set(at, lo | 0);
    this.set(at + 1, hi | 0);
  }

  /**
   * To be called after a gfn changed its frame: every vcpu drops its cached translations before it runs on. Who gives memory back to
   * the host hears of it.
   * @returns the generation that a vcpu knows of then
   */
  physmapChanged(): number {
    const generation = (Atomics.add(this.i32, Field.physmapGeneration, 1) + 1) | 0;
    if (this.memory.hasFreed) this.ringBackends();
    return generation;
  }

  /** Remembers a page that the builder made and that the hypervisor owns, so that ballooning leaves it alone. */
  addSpecialFrame(frame: Frame): void {
    for (let n = 0; n < MAX_SPECIAL_FRAMES; n++) {
      if (this.get(Field.specialFrames + n) === -1) {
        this.set(Field.specialFrames + n, frame);
        return;
      }
    }
  }

  /** True for frames that the hypervisor, not the guest, owns: shared info, grant tables, special pages. */
  isHypervisorFrame(frame: Frame): boolean {
    if (frame === this.sharedInfoFrame) return true;
    const grants = this.get(Field.nrGrantFrames);
    for (let n = 0; n < grants; n++) if (this.get(Field.grantFrames + n) === frame) return true;
    for (let n = 0; n < MAX_SPECIAL_FRAMES; n++) if (this.get(Field.specialFrames + n) === frame) return true;
    return false;
  }

  /** True for frames of the guest's that the hypervisor writes to wherever they are shown: vcpu_info, FIFO event arrays and control blocks. */
  isRegisteredFrame(frame: Frame): boolean {
    for (const vcpu of this.vcpus) {
      if (vcpu.get(VcpuField.vcpuInfoFrame) === frame || vcpu.get(VcpuField.fifoFrame) === frame) return true;
    }
    const pages = this.get(Field.nrFifoPages);
    for (let n = 0; n < pages; n++) if (this.get(Field.fifoFrames + n) === frame) return true;
    return false;
  }

  /** Where a hypervisor frame is shown to the guest, kept so that mapping it again moves it. */
  rememberGfn(field: number, gfn: Gfn): number {
    return Atomics.exchange(this.i32, field, gfn);
  }

  /** The reason the domain shut down for, or undefined while it lives. */
  get shutdownReason(): ShutdownReason | undefined {
    const value = this.get(Field.shutdown);
    return value === 0 ? undefined : ((value - 1) as ShutdownReason);
  }

  /** Shuts the domain down, unless it is already; every vcpu stops at its next exit and the backends are told. */
  shutDown(reason: ShutdownReason): void {
    const latched = this.get(Field.shutdownCode);
    const value = latched === 0 ? reason + 1 : latched;
    if (Atomics.compareExchange(this.i32, Field.shutdown, 0, value) !== 0) return;
    for (const vcpu of this.vcpus) vcpu.ring();
    this.ringBackends();
  }

  /** Forgets a shutdown, so that a suspended domain can go on. */
  clearShutdown(): void {
    this.set(Field.shutdown, 0);
    this.set(Field.shutdownCode, 0);
  }

  /** Wakes the backends' thread. */
  ringBackends(): void {
    Atomics.add(this.i32, Field.backendDoorbell, 1);
    Atomics.notify(this.i32, Field.backendDoorbell);
  }
}
