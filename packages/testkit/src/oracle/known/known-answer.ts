import { Assembler } from "../../asm/index.ts";
import {
  type CaseBits,
  CODE_BASE,
  defaultFx,
  Flag,
  type MemoryPatch,
  makeCase,
  SCRATCH_BASE,
  type TestCase,
  type TestResult,
  Vector,
} from "../case.ts";
import { registerName } from "../describe.ts";
import { ARITHMETIC_FLAGS } from "../undefined-flags.ts";

/** Registers by name: "rax" … "r15" as numbers, "xmm0" as 32 hex digits, "st0" as exponent:significand. */
export interface State {
  readonly [register: `r${string}`]: number | bigint;
  readonly [vector: `xmm${number}`]: string;
  readonly [stack: `st${number}`]: string;
  /** Arithmetic flags that are set, by name; after a "/" those that do not matter. "CF ZF / AF". */
  readonly flags?: string;
  readonly mxcsr?: number;
  readonly fcw?: number;
  /** Status word; of wanted states only the bits in `fswMask` count, default all but the undefined condition codes. */
  readonly fsw?: number;
  /** Bytes by offset in scratch memory, as hex: `{ 0x100: "01 02" }`. */
  readonly memory?: Readonly<Record<number, string>>;
}

/** What must be there afterwards; registers that are not named must be as before. */
export interface Wanted extends State {
  readonly fswMask?: number;
  /** Default #BP behind the code: it ran to its end. */
  readonly vector?: number;
  readonly errorCode?: number;
  readonly cr2?: number;
  /** RIP at the exception, as offset from the start of the code; default 0 unless the code ran to its end. */
  readonly at?: number;
}

/** A case with its outcome, worked out by hand from the manuals. */
export interface KnownAnswer {
  readonly name: string;
  readonly testCase: TestCase;
  readonly want: Wanted;
}

/** Writes a known answer: name, code, state before, state after. */
export function known(name: string, write: (a: Assembler) => unknown, before: State, want: Wanted): KnownAnswer {
  return answer(64, name, write, before, want);
}

/** The same in compatibility mode. */
export function known32(name: string, write: (a: Assembler) => unknown, before: State, want: Wanted): KnownAnswer {
  return answer(32, name, write, before, want);
}

function answer(
  bits: CaseBits,
  name: string,
  write: (a: Assembler) => unknown,
  before: State,
  want: Wanted,
): KnownAnswer {
  const a = new Assembler({ mode: bits, origin: CODE_BASE });
  write(a);
  const gprs: Record<number, bigint> = {};
  for (let i = 0; i < 16; i++) {
    const value = before[registerName(i) as "rax"];
    if (value !== undefined) gprs[i] = BigInt(value);
  }
  const memory: MemoryPatch[] = Object.entries(before.memory ?? {}).map(([offset, text]) => ({
    offset: Number(offset),
    bytes: fromHex(text),
  }));
  const testCase = makeCase({
    code: a.bytes(),
    gprs,
    rflags: parseFlags(before.flags ?? "").set,
    memory,
    fx: fxOf(before),
  });
  return { name, testCase: bits === 32 ? { ...testCase, bits } : testCase, want };
}

const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));

function parseFlags(text: string): { set: number; compared: number } {
  const bits = (part: string): number =>
    part
      .split(" ")
      .filter((w) => w !== "")
      .reduce((mask, w) => mask | Flag[w as keyof typeof Flag], 0);
  const [set, open = ""] = text.split("/");
  return { set: bits(set), compared: (ARITHMETIC_FLAGS | Flag.DF | bits(set)) & ~bits(open) };
}

/** An FX image if the state names any of it; st registers named are occupied, TOP is 0. */
function fxOf(state: State): Uint8Array | undefined {
  const fx = defaultFx();
  const view = new DataView(fx.buffer);
  let used = false;
  for (const [key, value] of Object.entries(state)) {
    const [, kind, index] = /^(xmm|st)(\d+)$/.exec(key) ?? [];
    if (kind === "xmm") fx.set(fromHex(value as string).reverse(), 160 + 16 * Number(index));
    else if (kind === "st") {
      fx.set(stackBytes(value as string), 32 + 16 * Number(index));
      fx[4] |= 1 << Number(index);
    } else if (key === "mxcsr") view.setUint32(24, value as number, true);
    else if (key === "fcw") view.setUint16(0, value as number, true);
    else if (key === "fsw") view.setUint16(2, value as number, true);
    else continue;
    used = true;
  }
  return used ? fx : undefined;
}

/** `3fff:8000000000000000` as the ten bytes in memory. */
const stackBytes = (text: string): Uint8Array => fromHex(text.replace(":", "")).reverse();

/** Compares a result with the known answer. @returns what differs, one line each; empty if all is right */
export function checkAnswer({ testCase, want }: KnownAnswer, r: TestResult): string[] {
  const wrong: string[] = [];
  const same = (what: string, expected: number | bigint | string, actual: number | bigint | string): void => {
    const text = (v: number | bigint | string): string => (typeof v === "string" ? v : `0x${v.toString(16)}`);
    if (text(expected) !== text(actual)) wrong.push(`${what}: expected ${text(expected)}, got ${text(actual)}`);
  };
  const complete = want.vector === undefined;
  same("vector", want.vector ?? Vector.BP, r.vector);
  same("rip", CODE_BASE + (want.at ?? (complete ? testCase.code.length + 1 : 0)), r.rip);
  same("error code", want.errorCode ?? 0, r.errorCode);
  same("cr2", want.cr2 ?? 0, r.cr2);
  const [count, bits] = testCase.bits === 32 ? [8, 32] : [16, 64];
  for (let i = 0; i < count; i++) {
    const wanted = BigInt(want[registerName(i) as "rax"] ?? testCase.gprs[i]);
    same(registerName(i), BigInt.asUintN(bits, wanted), BigInt.asUintN(bits, r.gprs[i]));
  }
  if (want.flags !== undefined) {
    const { set, compared } = parseFlags(want.flags);
    same("rflags", set & compared, r.rflags & compared);
  }
  checkFx(want, r.fx, same);
  checkMemory(want, r, wrong);
  return wrong;
}

function checkFx(
  want: Wanted,
  fx: Uint8Array,
  same: (what: string, expected: number | string, actual: number | string) => void,
): void {
  const view = new DataView(fx.buffer, fx.byteOffset);
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes.slice().reverse()).toString("hex");
  for (const [key, value] of Object.entries(want)) {
    const [, kind, index] = /^(xmm|st)(\d+)$/.exec(key) ?? [];
    if (kind === "xmm")
      same(key, value as string, hex(fx.subarray(160 + 16 * Number(index), 176 + 16 * Number(index))));
    if (kind === "st") {
      const at = 32 + 16 * Number(index);
      same(key, value as string, `${hex(fx.subarray(at + 8, at + 10))}:${hex(fx.subarray(at, at + 8))}`);
    }
  }
  if (want.mxcsr !== undefined) same("mxcsr", want.mxcsr, view.getUint32(24, true));
  if (want.fcw !== undefined) same("fcw", want.fcw, view.getUint16(0, true));
  const mask = want.fswMask ?? 0xbaff;
  if (want.fsw !== undefined) same("fsw", want.fsw & mask, view.getUint16(2, true) & mask);
}

function checkMemory(want: Wanted, r: TestResult, wrong: string[]): void {
  const changed = new Map<number, number>();
  for (const chunk of r.memory) chunk.bytes.forEach((byte, i) => changed.set(chunk.offset + i, byte));
  for (const [offset, text] of Object.entries(want.memory ?? {})) {
    const actual = [...fromHex(text)]
      .map(
        (_, i) =>
          changed
            .get(Number(offset) + i)
            ?.toString(16)
            .padStart(2, "0") ?? "--",
      )
      .join(" ");
    if (actual !== text)
      wrong.push(`memory+0x${Number(offset).toString(16)}: expected ${text}, got ${actual} (-- is unchanged)`);
  }
}

/** The linear address of a scratch offset. */
export const scratch = (offset: number): number => SCRATCH_BASE + offset;
