import { ByteWriter } from "./bytes.ts";
import { operator, TYPE_CODE, type ValType } from "./opcodes.ts";
import {
  type Address,
  type AddressType,
  constant,
  extendedLeaf,
  extensionOf,
  extensionOpcode,
  type I32,
  Node,
  Val,
} from "./value.ts";

/** A function's signature; `results` has no or one entry. */
export interface Signature {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

/** Something that can be called: an import or a function of the module. Its index is known when the module is laid out. */
export interface Callee {
  readonly index: number;
  readonly signature: Signature;
}

/** A mutable local variable. */
export interface Var<T extends ValType = ValType> {
  readonly type: T;
  readonly index: number;
  get(): Val<T>;
  set(value: Val<T>): void;
}

/** A branch target; valid inside the block or loop that made it. */
export interface Label {
  readonly level: number;
}

/** Memory operand: a byte offset added to the address, unsigned 32-bit. */
export type Offset = number;

const naturalAlignment = (name: string): number => {
  const bits = /(?:load|store|rmw)(\d+)/.exec(name)?.[1];
  if (name.startsWith("v128.load") && name.includes("x")) return 3;
  if (bits) return Math.log2(Number(bits) / 8);
  if (name.startsWith("memory.atomic")) return name.endsWith("64") ? 3 : 2;
  return name.startsWith("v128") ? 4 : name.slice(1, 3) === "64" ? 3 : 2;
};
const alignmentCache = new Map<string, readonly [number, ValType, number]>();
function memoryOperator(name: string): readonly [number, ValType, number] {
  let found = alignmentCache.get(name);
  if (!found) {
    const [code, type] = operator(name);
    // Guests make unaligned accesses; only atomics must state their natural alignment.
    const alignment = name.includes("atomic") ? naturalAlignment(name) : 0;
    alignmentCache.set(name, (found = [code, type, alignment]));
  }
  return found;
}

/** A branch instruction by its offset in the function's body, and whether it is usually taken. */
export interface BranchHint {
  readonly at: number;
  readonly likely: boolean;
}

/** Writes the body of one function. Statements are emitted at once, expressions when they are used. */
export class Fn {
  readonly signature: Signature;
  /** Of addresses in the module's memory: those of the other type are converted where they are used. */
  readonly addressType: AddressType;
  readonly code = new ByteWriter(512);
  private readonly locals: ValType[] = [];
  private readonly free: Record<ValType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  private scopes: [ValType, number][][] = [];
  private depth = 0;
  /** Places of `if` and `br_if` in `code` whose outcome is known to be rare or usual. */
  private readonly hints: BranchHint[] = [];

  constructor(signature: Signature, addressType: AddressType = "i32") {
    this.signature = signature;
    this.addressType = addressType;
  }

  param<T extends ValType>(index: number): Val<T> {
    return new Val(this.signature.params[index] as T, Node.localGet, undefined, undefined, undefined, index);
  }

  private newLocal(type: ValType): number {
    const reused = this.free[type].pop();
    if (reused !== undefined) return reused;
    this.locals.push(type);
    return this.signature.params.length + this.locals.length - 1;
  }

  /** A variable for the rest of the function (or of the scope, if one is open). Its first value is undefined. */
  var<T extends ValType>(type: T, initial?: Val<T>): Var<T> {
    const index = this.newLocal(type);
    this.scopes.at(-1)?.push([type, index]);
    const variable = {
      type,
      index,
      get: (): Val<T> => new Val(type, Node.localGet, undefined, undefined, undefined, index),
      set: (value: Val<T>): void => this.setLocal(index, value),
    };
    if (initial) variable.set(initial);
    return variable;
  }

  setLocal(index: number, value: Val): void {
    this.emit(value);
    this.code.u8(0x21);
    this.code.uleb(index);
  }

  /** Computes a value now and returns a leaf that may be used any number of times. */
  let<T extends ValType>(value: Val<T>): Val<T> {
    if (value.isLeaf) return value;
    const extension = extensionOf(value);
    // Many are never asked for more than the low bits, or in 32 bits, which need no extension.
    if (extension) return extendedLeaf(this.let(extension.from), extension.bits) as Val as Val<T>;
    const index = this.newLocal(value.type);
    this.scopes.at(-1)?.push([value.type, index]);
    this.setLocal(index, value);
    return new Val(value.type, Node.localGet, undefined, undefined, undefined, index);
  }

  /** Locals made inside are handed out again after it. */
  scope<R>(body: () => R): R {
    this.scopes.push([]);
    const result = body();
    for (const [type, index] of this.scopes.pop()!) this.free[type].push(index);
    return result;
  }

  /** How many blocks, loops and branches enclose what is emitted next. */
  get nesting(): number {
    return this.depth;
  }

  /** Emits an expression for its effect, dropping its value. */
  drop(value: Val): void {
    this.emit(value);
    this.code.u8(0x1a);
  }

  // Control

  private open(code: number, type: ValType | undefined, body: (label: Label) => void): void {
    this.code.u8(code);
    this.code.u8(type ? TYPE_CODE[type] : 0x40);
    this.depth++;
    body({ level: this.depth });
    this.depth--;
    this.code.u8(0x0b);
  }

  block(body: (end: Label) => void): void {
    this.open(0x02, undefined, body);
  }
  loop(body: (again: Label) => void): void {
    this.open(0x03, undefined, body);
  }
  /** @param likely tells V8 which side to lay out in line, where that is known */
  if(condition: I32, then: () => void, otherwise?: () => void, likely?: boolean): void {
    if (condition.isConst) {
      if (condition.i0) then();
      else otherwise?.();
      return;
    }
    this.emit(condition);
    if (likely !== undefined) this.hints.push({ at: this.code.length, likely });
    this.open(0x04, undefined, () => {
      then();
      if (otherwise) {
        this.code.u8(0x05);
        otherwise();
      }
    });
  }
  /** A value that depends on a branch; only the taken side runs. */
  ifElse<T extends ValType>(condition: I32, type: T, then: () => Val<T>, otherwise: () => Val<T>): Val<T> {
    if (condition.isConst) return condition.i0 ? then() : otherwise();
    const result = this.var(type);
    this.if(
      condition,
      () => result.set(then()),
      () => result.set(otherwise()),
    );
    return result.get();
  }
  while(condition: () => I32, body: () => void): void {
    this.block((end) =>
      this.loop((again) => {
        this.brIf(end, condition().eqz());
        body();
        this.br(again);
      }),
    );
  }
  br(label: Label): void {
    this.code.u8(0x0c);
    this.code.uleb(this.depth - label.level);
  }
  brIf(label: Label, condition: I32, likely?: boolean): void {
    this.emit(condition);
    if (likely !== undefined) this.hints.push({ at: this.code.length, likely });
    this.code.u8(0x0d);
    this.code.uleb(this.depth - label.level);
  }
  brTable(index: I32, labels: readonly Label[], fallback: Label): void {
    this.emit(index);
    this.code.u8(0x0e);
    this.code.uleb(labels.length);
    for (const label of labels) this.code.uleb(this.depth - label.level);
    this.code.uleb(this.depth - fallback.level);
  }
  return(value?: Val): void {
    if (value) this.emit(value);
    this.code.u8(0x0f);
  }
  unreachable(): void {
    this.code.u8(0x00);
  }

  // Calls

  call<T extends ValType>(callee: Callee, ...args: Val[]): Val<T> {
    return new Val(callee.signature.results[0] as T, Node.call, undefined, undefined, undefined, callee.index, 0, args);
  }
  /** A call of a function without result. */
  callVoid(callee: Callee, ...args: Val[]): void {
    for (const arg of args) this.emit(arg);
    this.code.u8(0x10);
    this.code.uleb(callee.index);
  }
  callIndirect<T extends ValType>(typeIndex: number, result: T, table: number, index: I32, ...args: Val[]): Val<T> {
    return new Val(result, Node.callIndirect, index, undefined, undefined, typeIndex, table, args);
  }
  /** A tail call through a table: this function's frame is gone when the callee starts. */
  returnCallIndirect(typeIndex: number, table: number, index: I32, ...args: Val[]): void {
    for (const arg of args) this.emit(arg);
    this.emit(index);
    this.code.u8(0x13);
    this.code.uleb(typeIndex);
    this.code.uleb(table);
  }
  /** A tail call: this function's frame is gone when the callee starts. */
  returnCall(callee: Callee, ...args: Val[]): void {
    for (const arg of args) this.emit(arg);
    this.code.u8(0x12);
    this.code.uleb(callee.index);
  }
  /** Emits statements in front of all that was emitted so far; they see the same locals. */
  prepend(body: () => void): void {
    const later = this.code.view().slice();
    const hints = this.hints.splice(0);
    this.code.length = 0;
    body();
    for (const { at, likely } of hints) this.hints.push({ at: at + this.code.length, likely });
    this.code.append(later);
  }
  globalGet<T extends ValType>(type: T, index: number): Val<T> {
    return new Val(type, Node.globalGet, undefined, undefined, undefined, index);
  }
  globalSet(index: number, value: Val): void {
    this.emit(value);
    this.code.u8(0x24);
    this.code.uleb(index);
  }

  // Operators

  select<T extends ValType>(condition: I32, then: Val<T>, otherwise: Val<T>): Val<T> {
    if (condition.isConst) return condition.i0 ? then : otherwise;
    return new Val(then.type, Node.select, then, otherwise, condition);
  }
  /** Any operator by its name in the text format, with value operands only. */
  op<T extends ValType>(name: string, a: Val, b?: Val, c?: Val): Val<T> {
    const [code, type] = operator(name);
    return new Val(type as T, code, a, b, c);
  }
  /** A lane operator: extract_lane or replace_lane. */
  lane<T extends ValType>(name: string, lane: number, a: Val, b?: Val): Val<T> {
    const [code, type] = operator(name);
    return new Val(type as T, code, a, b, undefined, lane);
  }
  /** i8x16.shuffle: byte i of the result is byte lanes[i] of a (0–15) or b (16–31). */
  shuffle(lanes: readonly number[], a: Val<"v128">, b: Val<"v128">): Val<"v128"> {
    return new Val("v128", 0xfd000d, a, b, undefined, 0, 0, Uint8Array.from(lanes));
  }
  /** A load, or an atomic operator that yields a value. */
  load<T extends ValType>(name: string, address: Address, offset: Offset = 0, b?: Val, c?: Val): Val<T> {
    const [code, type, alignment] = memoryOperator(name);
    return new Val(type as T, code, address, b, c, offset, alignment);
  }
  store(name: string, address: Address, value: Val, offset: Offset = 0): void {
    const [code, , alignment] = memoryOperator(name);
    this.emitAddress(address);
    this.emit(value);
    this.opcode(code);
    this.code.uleb(alignment);
    this.code.uleb(offset);
  }
  memoryCopy(to: Address, from: Address, lengthBytes: Address): void {
    this.emitAddress(to);
    this.emitAddress(from);
    this.emitAddress(lengthBytes);
    this.opcode(0xfc000a);
    this.code.u8(0);
    this.code.u8(0);
  }
  memoryFill(at: Address, value: I32, lengthBytes: Address): void {
    this.emitAddress(at);
    this.emit(value);
    this.emitAddress(lengthBytes);
    this.opcode(0xfc000b);
    this.code.u8(0);
  }
  fence(): void {
    this.opcode(0xfe0003);
    this.code.u8(0);
  }

  // Addresses

  /** A value as an address: its low 32 bits, or zero-extended where the memory is wide. */
  address(value: Val<"i32"> | Val<"i64">): Address {
    return this.addressType === "i64" ? value.extU() : value.wrap();
  }
  /** A constant address. */
  addressAt(at: number): Address {
    return constant(this.addressType, at);
  }
  loadAddress(at: Address, offset: Offset = 0): Address {
    return this.load<AddressType>(`${this.addressType}.load`, at, offset);
  }
  storeAddress(at: Address, value: Address, offset: Offset = 0): void {
    this.store(`${this.addressType}.store`, at, value, offset);
  }
  /** Not 0 if an address is not 0. */
  isSet(address: Address): I32 {
    return this.addressType === "i64" ? address.ne(0) : (address as I32);
  }

  // Emission

  /** What has 32 bits lies in the first 4 GiB of a wide memory. */
  private emitAddress(value: Val): void {
    this.emit(value);
    if (this.addressType === "i64" && value.type === "i32") this.code.u8(0xad);
  }
  private opcode(code: number): void {
    if (code > 0xffff) {
      this.code.u8(code >>> 16);
      this.code.uleb(code & 0xffff);
    } else this.code.u8(code);
  }

  /** Emits an expression tree in post-order. */
  emit(value: Val): void {
    const out = this.code;
    if (value.code === Node.localGet) {
      out.u8(0x20);
      out.uleb(value.i0);
      return;
    }
    if (value.code === Node.const) return this.emitConst(value);
    if (value.code === Node.extended) {
      this.emit(value.a!);
      return out.u8(extensionOpcode(value.extended!.bits));
    }
    if (value.emitted) throw new Error("an expression is emitted twice; put it into a local with let() first");
    value.emitted = true;
    if (value.code === Node.call || value.code === Node.callIndirect) return this.emitCall(value);
    if (value.code === Node.globalGet) {
      out.u8(0x23);
      out.uleb(value.i0);
      return;
    }
    if (value.a) {
      if (isMemory(value.code)) this.emitAddress(value.a);
      else this.emit(value.a);
    }
    if (value.b) this.emit(value.b);
    if (value.c) this.emit(value.c);
    if (value.code === Node.select) return out.u8(0x1b);
    this.opcode(value.code);
    this.emitImmediates(value);
  }

  private emitImmediates(value: Val): void {
    const { code } = value;
    if (isMemory(code)) {
      this.code.uleb(value.i1);
      this.code.uleb(value.i0);
    } else if (code === 0xfd000d) this.code.append(value.extra as Uint8Array);
    else if (code >= 0xfd0015 && code <= 0xfd0022) this.code.u8(value.i0);
  }

  private emitConst(value: Val): void {
    const out = this.code;
    switch (value.type as ValType) {
      case "i32":
        out.u8(0x41);
        return out.sleb32(value.i0);
      case "i64":
        out.u8(0x42);
        return out.sleb64(value.i0, value.i1);
      case "v128":
        out.u8(0xfd);
        out.uleb(12);
        return out.append(value.extra as Uint8Array);
      default: {
        const bytes = new DataView(new ArrayBuffer(8));
        const wide = value.type === "f64";
        out.u8(wide ? 0x44 : 0x43);
        bytes.setInt32(0, value.i0, true);
        bytes.setInt32(4, value.i1, true);
        out.append(new Uint8Array(bytes.buffer, 0, wide ? 8 : 4));
      }
    }
  }

  private emitCall(value: Val): void {
    for (const arg of value.extra as readonly Val[]) this.emit(arg);
    if (value.code === Node.callIndirect) {
      this.emit(value.a!);
      this.code.u8(0x11);
      this.code.uleb(value.i0);
      this.code.uleb(value.i1);
    } else {
      this.code.u8(0x10);
      this.code.uleb(value.i0);
    }
  }

  /** The function's entry of the code section, and where in it branches are whose usual outcome is known. */
  finish(): { body: ByteWriter; hints: readonly BranchHint[] } {
    const body = new ByteWriter(this.code.length + 64);
    const runs: [ValType, number][] = [];
    for (const type of this.locals) {
      const last = runs.at(-1);
      if (last && last[0] === type) last[1]++;
      else runs.push([type, 1]);
    }
    body.uleb(runs.length);
    for (const [type, count] of runs) {
      body.uleb(count);
      body.u8(TYPE_CODE[type]);
    }
    const start = body.length;
    body.append(this.code.view());
    body.u8(0x0b);
    return { body, hints: this.hints.map(({ at, likely }) => ({ at: at + start, likely })) };
  }
}

function isMemory(code: number): boolean {
  if (code < 0x100) return code >= 0x28 && code <= 0x3e;
  if (code >= 0xfe0000) return code !== 0xfe0003;
  return (code >= 0xfd0000 && code <= 0xfd000b) || code === 0xfd005c || code === 0xfd005d;
}

/** A float constant by its bits; see `constant` for integers. */
export const f64Const = (value: number): Val<"f64"> => {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value, true);
  return new Val("f64", Node.const, undefined, undefined, undefined, view.getInt32(0, true), view.getInt32(4, true));
};
export const f32Const = (value: number): Val<"f32"> => {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value, true);
  return new Val("f32", Node.const, undefined, undefined, undefined, view.getInt32(0, true));
};
export const zero = <T extends ValType>(type: T): Val<T> => constant(type, 0);
