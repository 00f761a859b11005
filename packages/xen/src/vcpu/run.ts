/** The loop of a vcpu's worker thread. */
import type { Exit, Gpa, Vcpu, VcpuEngine, VcpuStart } from "@xenoserver/cpu";
import { HvmParam } from "../abi/hvm.ts";
import { ShutdownReason } from "../abi/sched.ts";
import { Runstate } from "../abi/vcpu.ts";
import { LocalApic, resetApic } from "../apic/local-apic.ts";
import type { Domain } from "../domain/domain.ts";
import { BlockKind, Field, VcpuField, VcpuLife } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import type { HypercallContext } from "../hypercall/context.ts";
import { executeHypercall } from "../hypercall/dispatch.ts";
import { Msrs } from "../msr/msrs.ts";
import { type Clock, HostClock } from "../time/clock.ts";
import { changeRunstate, publishRunstate } from "../time/runstate.ts";
import { fireDueTimers, nextDeadlineNs } from "../time/timers.ts";
import { chargeCap, hasCap, heldBackNs } from "./cap.ts";
import { ExitHandlers } from "./exits.ts";
import { HaltPoll } from "./halt-poll.ts";
import { lookPaused, setParked } from "./pause.ts";
import { lookBlocked, needsAttention, type VcpuWait } from "./sleep.ts";

export interface VcpuLoopConfig {
  readonly engine: VcpuEngine;
  readonly vcpu: Vcpu;
  readonly domain: Domain;
  /** Puts the vcpu's registers into a start state, as a startup IPI asks. */
  readonly start: (vcpu: Vcpu, start: VcpuStart) => void;
  readonly log: (message: string) => void;
  /** Text for the hypervisor's console: CONSOLEIO_write and port 0xE9. */
  readonly debugConsole?: (text: string) => void;
  readonly clock?: Clock;
  /** Lets threads that wait for this one's processor run first; with it a vcpu that waits looks for what comes before it sleeps. */
  readonly yieldProcessor?: () => void;
}

/** Runs a vcpu until its domain shuts down; returns the reason. Never throws for anything a guest does. */
export function runVcpu(config: VcpuLoopConfig): ShutdownReason {
  return new VcpuLoop(config).run();
}

/** How long a vcpu runs before others of its thread have their turn. */
const SLICE_NS = 1_000_000;

/** Settles when a vcpu may go on. @param hadShare  it did not wait, and others may want theirs */
export type NextTurn = (hadShare: boolean) => Promise<void> | void;

/** As `runVcpu`, on a thread that runs other vcpus too: each in its turn, as the thread's event loop has them. */
export function runVcpuInTurn(config: VcpuLoopConfig, nextTurn: NextTurn): Promise<ShutdownReason> {
  return new VcpuLoop(config).runInTurn(nextTurn);
}

class VcpuLoop {
  readonly #config: VcpuLoopConfig;
  readonly #domain: Domain;
  readonly #record: VcpuRecord;
  readonly #vcpu: Vcpu;
  readonly #engine: VcpuEngine;
  readonly #apic: LocalApic;
  readonly #clock: Clock;
  readonly #ctx: HypercallContext;
  readonly #exits: ExitHandlers;
  readonly #poll: HaltPoll | undefined;
  #physmapGeneration: number;
  /** It stands still because somebody wants a pause. */
  #parked = false;
  #hasRun = false;

  constructor(config: VcpuLoopConfig) {
    const { domain, vcpu, engine, log, debugConsole, yieldProcessor } = config;
    this.#config = config;
    this.#domain = domain;
    this.#vcpu = vcpu;
    this.#engine = engine;
    this.#record = domain.vcpus[vcpu.id];
    this.#clock = config.clock ?? new HostClock(domain);
    this.#apic = new LocalApic(domain, this.#record, this.#clock);
    const msrs = new Msrs(domain, this.#record, this.#apic, () => vcpu.is64);
    this.#poll = yieldProcessor && new HaltPoll(yieldProcessor);
    this.#exits = new ExitHandlers(vcpu, this.#record, this.#apic, msrs, debugConsole);
    const ctx = { domain, vcpu, memory: domain.memory, clock: this.#clock, log };
    this.#ctx = debugConsole === undefined ? ctx : { ...ctx, debugConsole };
    // It has translations of no time.
    this.#physmapGeneration = domain.get(Field.physmapGeneration);
    this.#record.set(VcpuField.physmapSeen, this.#physmapGeneration);
    vcpu.setInterruptSource(this.#apic);
  }

  run(): ShutdownReason {
    this.#begin();
    while (this.#domain.shutdownReason === undefined) {
      const wait = this.#step();
      if (wait !== undefined) this.#wait(wait);
    }
    return this.#finish();
  }

  #wait(wait: VcpuWait): void {
    const isBlocked = this.#record.get(VcpuField.runstate) === Runstate.blocked;
    // Polling takes a processor's time, which a cap is to limit.
    if (this.#poll !== undefined && isBlocked && !hasCap(this.#domain)) this.#poll.wait(this.#record, wait);
    else this.#record.wait(wait.seen, wait.timeoutMs);
  }

  async runInTurn(nextTurn: NextTurn): Promise<ShutdownReason> {
    this.#begin();
    while (this.#domain.shutdownReason === undefined) {
      const wait = this.#slice();
      if (wait !== undefined) await this.#record.waitAsync(wait.seen, wait.timeoutMs);
      else if (this.#record.get(VcpuField.runstate) === Runstate.running) this.#setRunstate(Runstate.runnable);
      if (this.#hasRun) await nextTurn(wait === undefined);
    }
    return this.#finish();
  }

  /** Until the vcpu has to wait, or has had its share; the first one is over as soon as it has run at all. */
  #slice(): VcpuWait | undefined {
    const untilNs = this.#hasRun ? this.#clock.nowNs() + SLICE_NS : 0;
    while (this.#domain.shutdownReason === undefined) {
      const wait = this.#step();
      if (wait !== undefined) return wait;
      if (this.#hasRun && this.#clock.nowNs() >= untilNs) return undefined;
    }
    return undefined;
  }

  #begin(): void {
    // It may be paused before it has run.
    if (this.#record.get(VcpuField.life) === VcpuLife.online) this.#setRunstate(Runstate.runnable);
  }

  #finish(): ShutdownReason {
    this.#setRunstate(Runstate.offline);
    setParked(this.#domain, this.#record, true);
    return this.#domain.shutdownReason!;
  }

  /** @returns what the vcpu has to wait for before the next step; undefined if it need not wait */
  #step(): VcpuWait | undefined {
    const record = this.#record;
    if ((this.#parked || needsAttention(this.#domain, record)) && this.#vcpu.hasExits !== true) return this.#attend();
    if (record.get(VcpuField.block) !== BlockKind.none) {
      this.#setRunstate(Runstate.blocked);
      const wait = lookBlocked(this.#domain, record, this.#apic, this.#clock);
      if (record.get(VcpuField.block) === BlockKind.none) this.#setRunstate(Runstate.running);
      return wait;
    }
    const generation = this.#domain.get(Field.physmapGeneration);
    if (generation !== this.#physmapGeneration) {
      this.#physmapGeneration = generation;
      this.#engine.flushPhysmap(this.#vcpu);
      this.#record.set(VcpuField.physmapSeen, generation);
    }
    const heldBack = this.#heldBack();
    if (heldBack !== undefined) return heldBack;
    const beganNs = hasCap(this.#domain) ? this.#clock.nowNs() : undefined;
    this.#handle(this.#engine.run(this.#vcpu));
    this.#hasRun = true;
    if (beganNs !== undefined) chargeCap(this.#domain, this.#clock.nowNs() - beganNs);
    // After exits of every kind: a guest that reads a port in a loop may never have another.
    this.#fireTimers();
    return undefined;
  }

  /** What to wait for if the domain has had what its cap lets it have; whoever rings is heard. */
  #heldBack(): VcpuWait | undefined {
    if (!hasCap(this.#domain)) {
      // It may have been lifted meanwhile, or the thread have run others.
      if (this.#record.get(VcpuField.runstate) === Runstate.runnable) this.#setRunstate(Runstate.running);
      return undefined;
    }
    const seen = this.#record.doorbell;
    const delayNs = heldBackNs(this.#domain, this.#clock.nowNs());
    // What the guest has asked for already is done.
    if (delayNs === 0 || this.#vcpu.hasExits === true) {
      this.#setRunstate(Runstate.running);
      return undefined;
    }
    this.#setRunstate(Runstate.runnable);
    return { seen, timeoutMs: needsAttention(this.#domain, this.#record) ? 0 : delayNs / 1e6 };
  }

  #handle(exit: Exit): void {
    switch (exit.kind) {
      case "preempted":
        return;
      case "hypercall":
        executeHypercall(this.#ctx);
        return;
      case "msr-read":
        this.#exits.msrRead(exit);
        return;
      case "msr-write":
        this.#exits.msrWrite(exit);
        return;
      case "pio-in":
        this.#exits.portIn(exit);
        return;
      case "pio-out":
        this.#exits.portOut(exit);
        return;
      case "mmio-read":
        this.#exits.mmioRead(exit);
        return;
      case "mmio-write":
        this.#exits.mmioWrite(exit);
        return;
      case "halt":
        this.#record.set(VcpuField.block, BlockKind.halt);
        return;
      case "shutdown":
        if (exit.reason === "triple-fault") this.#tripleFault();
        else this.#haltForEver();
        return;
      case "fault":
        this.#log(`engine fault: ${exit.message}\n${this.#vcpu.describe()}`);
        this.#domain.shutDown(ShutdownReason.crash);
        return;
    }
  }

  #fireTimers(): void {
    if (nextDeadlineNs(this.#record) === Infinity) return;
    fireDueTimers(this.#domain, this.#record, this.#clock.nowNs());
  }

  #tripleFault(): void {
    this.#log(`triple fault\n${this.#vcpu.describe()}`);
    this.#domain.shutDown(this.#domain.hvmParam(HvmParam.TRIPLE_FAULT_REASON).lo as ShutdownReason);
  }

  /** A halt that nothing can end takes the vcpu down; with the last vcpu the domain powers off, as under Xen. */
  #haltForEver(): void {
    this.#record.set(VcpuField.life, VcpuLife.down);
    const anyOnline = this.#domain.vcpus.some((vcpu) => vcpu.get(VcpuField.life) === VcpuLife.online);
    if (!anyOnline) this.#domain.shutDown(ShutdownReason.poweroff);
  }

  /** Handles whatever `needsAttention` saw; a shutdown ends the loop by itself. */
  #attend(): VcpuWait | undefined {
    const record = this.#record;
    if (this.#parked || this.#domain.get(Field.pauseCount) !== 0) {
      this.#setRunstate(Runstate.runnable);
      const wait = lookPaused(this.#domain, record);
      this.#parked = wait !== undefined;
      if (wait !== undefined) return wait;
      const runs = record.get(VcpuField.life) === VcpuLife.online && record.get(VcpuField.block) === BlockKind.none;
      if (runs) this.#setRunstate(Runstate.running);
      return undefined;
    }
    if (record.exchange(VcpuField.init, 0) !== 0) this.#takeInit();
    return record.get(VcpuField.life) === VcpuLife.online ? undefined : this.#lookOffline();
  }

  #takeInit(): void {
    resetApic(this.#record);
    this.#record.set(VcpuField.block, BlockKind.none);
    this.#record.set(VcpuField.life, VcpuLife.uninitialised);
  }

  #lookOffline(): VcpuWait | undefined {
    const record = this.#record;
    this.#setRunstate(Runstate.offline);
    const seen = record.doorbell;
    const sipi = record.exchange(VcpuField.sipi, 0);
    if (sipi !== 0 && record.get(VcpuField.life) === VcpuLife.uninitialised) {
      this.#config.start(this.#vcpu, { mode: "real", entry: ((sipi & 0xff) * 4096) as Gpa, rbx: 0 });
      record.set(VcpuField.life, VcpuLife.online);
    }
    if (record.get(VcpuField.life) === VcpuLife.online) {
      this.#setRunstate(Runstate.running);
      return undefined;
    }
    const mustLook = this.#domain.get(Field.shutdown) !== 0 || record.get(VcpuField.init) !== 0;
    return mustLook || this.#domain.get(Field.pauseCount) !== 0 ? undefined : { seen, timeoutMs: Infinity };
  }

  #setRunstate(state: Runstate): void {
    const record = this.#record;
    if (record.get(VcpuField.runstate) === state) return;
    const nowNs = this.#clock.nowNs();
    changeRunstate(record, state, nowNs);
    if (state !== Runstate.offline) publishRunstate(this.#domain, record, this.#vcpu, nowNs);
  }

  #log(message: string): void {
    this.#config.log(`dom${this.#domain.domid} vcpu${this.#record.id}: ${message}`);
  }
}
