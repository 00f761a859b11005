import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCase, type TestCase, type TestEngine, type TestResult, Vector } from "./case.ts";
import { decodeResults, encodeBatch, normaliseFx } from "./codec.ts";
import { buildRunner } from "./runner.ts";

/** Cases given to one process: bounds the memory of a batch to some tens of megabytes. */
const BATCH_CASES = 32_768;
/** The most that one result takes. */
const RESULT_BYTES_MAX = 80_000;

/**
 * The host's own processor as an engine: runs cases natively in a child process.
 *
 * Cases must not be hostile to the process itself: system calls end a case on Linux 5.11 and later, earlier kernels
 * would execute them.
 */
export class HostCpu implements TestEngine {
  readonly #program: string;

  /** @throws if this host cannot run the runner; ask `available` first */
  constructor() {
    const program = HostCpu.#cachedProgram();
    if (program === undefined)
      throw new Error(`oracle: ${process.platform}/${process.arch} cannot run it, expected linux/x64`);
    this.#program = program;
  }

  /** True on an x86-64 Linux host that lets the runner start. */
  static available(): boolean {
    if (HostCpu.#usable === undefined) {
      HostCpu.#usable = false;
      const program = HostCpu.#cachedProgram();
      try {
        const probe = program === undefined ? [] : runBatch(program, [makeCase({ code: new Uint8Array(0) })]);
        HostCpu.#usable = probe.length === 1 && probe[0].vector === Vector.BP;
      } catch {
        // A temporary folder without execute permission, a sandbox that forbids the runner's system calls.
      }
    }
    return HostCpu.#usable;
  }
  static #usable: boolean | undefined;

  /**
   * Why compatibility mode cannot be asked for here; undefined if it can. Hypervisors that run their guests without the processor's help have
   * no 32-bit segments for programs, and return from signals in ways of their own.
   */
  static no32(): string | undefined {
    if (!HostCpu.available()) return "needs an x86-64 Linux host";
    HostCpu.#runs32 ??= new HostCpu().run([makeCase({ bits: 32, code: new Uint8Array(0) })])[0]?.vector === Vector.BP;
    return HostCpu.#runs32 ? undefined : "this host's hypervisor lets programs run no 32-bit code";
  }
  static #runs32: boolean | undefined;

  /**
   * Runs the cases, each in a fresh world.
   * @returns one result a case, in their order; a case that killed the process is "lost"
   */
  run(cases: readonly TestCase[]): TestResult[] {
    const results: TestResult[] = [];
    while (results.length < cases.length) {
      const batch = cases.slice(results.length, results.length + BATCH_CASES);
      const got = runBatch(this.#program, batch);
      for (const r of got) results.push(r);
      if (got.length < batch.length) results.push(lost(batch[got.length]));
    }
    return results;
  }

  static #cachedProgram(): string | undefined {
    if (process.platform !== "linux" || process.arch !== "x64") return undefined;
    const elf = buildRunner();
    const hash = createHash("sha256").update(elf).digest("hex").slice(0, 16);
    const folder = join(tmpdir(), `xenoserver-oracle-${process.getuid?.() ?? 0}`);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    // Anyone may have made a folder of this name; nothing in it is run unless it is ours alone.
    const { uid, mode } = statSync(folder);
    if (uid !== process.getuid?.() || (mode & 0o022) !== 0) {
      throw new Error(
        `oracle: ${folder} belongs to uid ${uid} with mode ${mode.toString(8)}, expected to be ours alone`,
      );
    }
    const path = join(folder, `runner-${hash}`);
    if (existsSync(path)) return path;
    const own = `${path}.${process.pid}`;
    writeFileSync(own, elf);
    chmodSync(own, 0o700);
    renameSync(own, path);
    return path;
  }
}

function runBatch(program: string, cases: readonly TestCase[]): TestResult[] {
  const input = encodeBatch(cases);
  const child = spawnSync(program, {
    input,
    maxBuffer: cases.length * RESULT_BYTES_MAX,
    stdio: ["pipe", "pipe", "inherit"],
  });
  if (child.error && !child.stdout) throw new Error(`oracle: ${program} did not start`, { cause: child.error });
  return decodeResults(child.stdout, cases);
}

function lost(c: TestCase): TestResult {
  const fx = normaliseFx(c.fx?.slice() ?? new Uint8Array(512));
  return {
    kind: "lost",
    vector: 0,
    errorCode: 0,
    cr2: 0n,
    rip: 0n,
    rflags: c.rflags,
    gprs: c.gprs.slice(),
    fx,
    memory: [],
  };
}
