/** A small built domain with a fake vcpu and a fake clock, for tests. */
import { DomainMemory, type Gpa, Gpr } from "@xenoserver/cpu";
import { bytesInMemory } from "../builder/image/image-bytes.ts";
import { type BuiltDomain, buildDomain, framesNeeded } from "../builder/index.ts";
import type { HypercallContext } from "../hypercall/context.ts";
import { executeHypercall } from "../hypercall/dispatch.ts";
import { FakeClock } from "../time/clock.ts";
import { FakeVcpu } from "./fake-vcpu.ts";

const REGISTERS_64 = [Gpr.rdi, Gpr.rsi, Gpr.rdx, Gpr.r10, Gpr.r8, Gpr.r9];
const REGISTERS_32 = [Gpr.rbx, Gpr.rcx, Gpr.rdx, Gpr.rsi, Gpr.rdi, Gpr.rbp];

/** A scratch page that tests put hypercall structures into. */
export const SCRATCH = 0x200000;

export class TestDomain {
  readonly memory: DomainMemory;
  readonly built: BuiltDomain;
  readonly clock = new FakeClock();
  readonly vcpus: readonly FakeVcpu[];
  readonly logs: string[] = [];
  readonly debugText: string[] = [];

  constructor(options: { nrVcpus?: number; memoryMiB?: number } = {}) {
    const { nrVcpus = 2, memoryMiB = 4 } = options;
    this.memory = DomainMemory.create(nrVcpus, framesNeeded(memoryMiB));
    const kernel = {
      name: "none",
      entry: 0x100000 as Gpa,
      content: bytesInMemory(new Uint8Array()),
      segments: [],
      endGpa: 0x100000 as Gpa,
    };
    this.built = buildDomain({ domid: 7, nrVcpus, memoryMiB, kernel }, this.memory);
    this.vcpus = Array.from({ length: nrVcpus }, (_, id) => new FakeVcpu(id, this.memory));
  }

  get domain() {
    return this.built.domain;
  }

  context(vcpuId = 0): HypercallContext {
    return {
      domain: this.domain,
      vcpu: this.vcpus[vcpuId],
      memory: this.memory,
      clock: this.clock,
      log: (message) => this.logs.push(message),
      debugConsole: (text) => this.debugText.push(text),
    };
  }

  /** Makes a hypercall with small numbers as arguments; the result, sign-extended. */
  hypercall(number: number, args: readonly number[], vcpuId = 0): number {
    const vcpu = this.vcpus[vcpuId];
    const registers = vcpu.is64 ? REGISTERS_64 : REGISTERS_32;
    vcpu.setGpr(Gpr.rax, number, Math.floor(number / 2 ** 32));
    args.forEach((value, n) => vcpu.setGpr(registers[n], value, Math.floor(value / 2 ** 32)));
    executeHypercall(this.context(vcpuId));
    return vcpu.result;
  }

  /** Puts 32-bit words at a guest address. */
  poke(at: number, words: readonly number[]): void {
    this.memory.write(at as Gpa, new Uint8Array(Uint32Array.from(words).buffer));
  }

  /** Reads a 32-bit word from a guest address. */
  peek(at: number): number {
    const bytes = new Uint8Array(4);
    this.memory.read(at as Gpa, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }
}
