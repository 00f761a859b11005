import type { TestCase, TestEngine, TestResult } from "@xenoserver/testkit";
import { LocalRegionService, type RegionService } from "../jit/region-compiler.ts";
import { describeRegions } from "../kept/described.ts";
import { KnownRegions, RegionsWriter } from "../kept/known-regions.ts";
import type { KnownModules } from "../kept/recall.ts";
import type { DomainMemory } from "../memory/domain-memory.ts";
import type { WasmVcpu } from "../wasm-vcpu.ts";
import { CaseEngine } from "./case-engine.ts";

/** What one engine compiled, for another that finds it again; machine code does not go by way of a file. */
export class EarlierRun {
  readonly #modules: WebAssembly.Module[] = [];
  readonly #regions: Int32Array[] = [];

  /** For the engine that compiles. */
  readonly recording = (memory: DomainMemory): RegionService =>
    new LocalRegionService(memory, (module, _bytes, regions) => {
      this.#regions.push(describeRegions(regions));
      this.#modules.push(module);
    });

  /** For the engine that compiles nothing itself. */
  readonly recalling = (): RegionService => ({
    request: () => {},
    finished: () => [],
    known: () => this.known,
  });
  get known(): KnownModules {
    const regions = new KnownRegions(KnownRegions.index(writeRegions(this.#regions), [...this.#regions.keys()]));
    return {
      regions,
      read: (module) => this.#modules[regions.addressOf(module)],
      describe: (module) => this.#regions[regions.addressOf(module)],
    };
  }
}

/** Of modules with these descriptions. */
export function writeRegions(modules: readonly Int32Array[]): SharedArrayBuffer {
  const writer = new RegionsWriter(modules.reduce((sum, { length }) => sum + length, 0));
  for (const regions of modules) writer.add(regions);
  return writer.finish();
}

/** Runs cases on an engine that finds again what another made of the same cases. */
export class RecallingEngine implements TestEngine {
  /** Regions that were found so far. */
  recalled = 0;

  run(cases: readonly TestCase[]): TestResult[] {
    const earlier = new EarlierRun();
    new CaseEngine("always", [], earlier.recording).run(cases);
    const engine = new CaseEngine("hot", [], earlier.recalling);
    const results = engine.run(cases);
    this.recalled += (engine.vcpu as WasmVcpu).hotSpots.recalled;
    return results;
  }
}
