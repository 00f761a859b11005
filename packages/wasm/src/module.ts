import { ByteWriter } from "./bytes.ts";
import { type BranchHint, type Callee, Fn, type Signature } from "./fn.ts";
import { TYPE_CODE, type ValType } from "./opcodes.ts";
import type { AddressType } from "./value.ts";

interface FuncImport {
  readonly module: string;
  readonly name: string;
  readonly type: number;
}

/** A function of the module, callable before its body is written. */
export interface Func extends Callee {
  readonly fn: Fn;
}

/** An imported global, by its index. */
export interface GlobalImport {
  readonly globalIndex: number;
}

/** Limits of an imported shared memory, in pages of 64 KiB. */
export interface MemoryLimits {
  readonly minPages: number;
  readonly maxPages: number;
}

/** Collects types, imports, functions and tables, and lays them out as a WebAssembly binary. */
export class ModuleBuilder {
  /** Of the imported memory: `i64` for one that may be larger than 4 GiB. */
  readonly addressType: AddressType;
  private readonly types: Signature[] = [];
  private readonly typeIndex = new Map<string, number>();
  private readonly imports: FuncImport[] = [];
  private readonly funcs: { type: number; fn: Fn }[] = [];
  private readonly exports: { name: string; kind: number; callee: Callee }[] = [];
  private readonly globals: { type: ValType; value: number }[] = [];
  private readonly elements: { offset: number | GlobalImport; funcs: readonly Callee[] }[] = [];
  private readonly globalImports: { module: string; name: string; type: ValType }[] = [];
  private importsClosed = false;
  private memory: { module: string; name: string; limits: MemoryLimits } | undefined;
  private table: { module: string; name: string; entries: number } | undefined;

  constructor(addressType: AddressType = "i32") {
    this.addressType = addressType;
  }

  type(signature: Signature): number {
    const key = `${signature.params.join()}>${signature.results.join()}`;
    let index = this.typeIndex.get(key);
    if (index === undefined) {
      index = this.types.push(signature) - 1;
      this.typeIndex.set(key, index);
    }
    return index;
  }

  /** Imports precede functions in the index space, so none may come once the index of a function has been asked for. */
  importFunc(module: string, name: string, signature: Signature): Callee {
    if (this.importsClosed) throw new Error(`import ${module}.${name} after the index of a function was used`);
    const index = this.imports.push({ module, name, type: this.type(signature) }) - 1;
    return { index, signature };
  }
  importMemory(module: string, name: string, limits: MemoryLimits): void {
    this.memory = { module, name, limits };
  }
  /** A table of functions that never grows. */
  importTable(module: string, name: string, entries: number): void {
    this.table = { module, name, entries };
  }

  /** An immutable global that is known when the module is instantiated. */
  importGlobal(module: string, name: string, type: ValType): GlobalImport {
    if (this.globals.length) throw new Error(`import ${module}.${name} after a global was defined`);
    return { globalIndex: this.globalImports.push({ module, name, type }) - 1 };
  }

  func(params: readonly ValType[], results: readonly ValType[], exportAs?: string): Func {
    const signature = { params, results };
    const fn = new Fn(signature, this.addressType);
    const position = this.funcs.push({ type: this.type(signature), fn }) - 1;
    const indexOf = () => this.functionIndex(position);
    const func: Func = {
      get index() {
        return indexOf();
      },
      signature,
      fn,
    };
    if (exportAs) this.exports.push({ name: exportAs, kind: 0, callee: func });
    return func;
  }
  private functionIndex(position: number): number {
    this.importsClosed = true;
    return this.imports.length + position;
  }
  /** A mutable global with a constant first value. */
  global(type: ValType, value: number): number {
    return this.globalImports.length + this.globals.push({ type, value }) - 1;
  }
  /** Puts functions into the imported table from `offset` on, when the module is instantiated. */
  element(offset: number, funcs: readonly Callee[]): void {
    this.elements.push({ offset, funcs });
  }
  /** The same from an offset on that an imported i32 tells. */
  elementAt(offset: GlobalImport, funcs: readonly Callee[]): void {
    this.elements.push({ offset, funcs });
  }

  finish(): Uint8Array<ArrayBuffer> {
    const out = new ByteWriter(1 << 16);
    out.append(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
    section(out, 1, this.types.length, (w) => this.types.forEach((t) => typeEntry(w, t)));
    this.importSection(out);
    section(out, 3, this.funcs.length, (w) => this.funcs.forEach((f) => w.uleb(f.type)));
    section(out, 6, this.globals.length, (w) => this.globals.forEach((g) => globalEntry(w, g.type, g.value)));
    section(out, 7, this.exports.length, (w) =>
      this.exports.forEach((e) => {
        w.name(e.name);
        w.u8(e.kind);
        w.uleb(e.callee.index);
      }),
    );
    section(out, 9, this.elements.length, (w) =>
      this.elements.forEach((e) => {
        w.u8(0);
        if (typeof e.offset === "number") {
          w.u8(0x41);
          w.sleb32(e.offset);
        } else {
          w.u8(0x23);
          w.uleb(e.offset.globalIndex);
        }
        w.u8(0x0b);
        w.uleb(e.funcs.length);
        for (const callee of e.funcs) w.uleb(callee.index);
      }),
    );
    const finished = this.funcs.map((f) => f.fn.finish());
    this.branchHintSection(
      out,
      finished.map(({ hints }) => hints),
    );
    section(out, 10, finished.length, (w) =>
      finished.forEach(({ body }) => {
        w.uleb(body.length);
        w.append(body.view());
      }),
    );
    this.nameSection(out);
    return out.view().slice();
  }

  /** The section `metadata.code.branch_hint`, which must precede the code. */
  private branchHintSection(out: ByteWriter, hintsOf: readonly (readonly BranchHint[])[]): void {
    const hinted = hintsOf.flatMap((hints, position) => (hints.length ? [{ hints, position }] : []));
    if (hinted.length === 0) return;
    const body = new ByteWriter(1024);
    body.name("metadata.code.branch_hint");
    body.uleb(hinted.length);
    for (const { hints, position } of hinted) {
      body.uleb(this.functionIndex(position));
      body.uleb(hints.length);
      for (const { at, likely } of hints) {
        body.uleb(at);
        body.u8(1);
        body.u8(likely ? 1 : 0);
      }
    }
    out.u8(0);
    out.uleb(body.length);
    out.append(body.view());
  }

  /** Names of exported functions, for profilers and stack traces. */
  private nameSection(out: ByteWriter): void {
    const named = this.exports.map((e) => ({ name: e.name, index: e.callee.index })).sort((a, b) => a.index - b.index);
    if (named.length === 0) return;
    const map = new ByteWriter();
    map.uleb(named.length);
    for (const { index, name } of named) {
      map.uleb(index);
      map.name(name);
    }
    const body = new ByteWriter();
    body.name("name");
    body.u8(1);
    body.uleb(map.length);
    body.append(map.view());
    out.u8(0);
    out.uleb(body.length);
    out.append(body.view());
  }

  private importSection(out: ByteWriter): void {
    const others = this.globalImports.length + (this.memory ? 1 : 0) + (this.table ? 1 : 0);
    const count = this.imports.length + others;
    section(out, 2, count, (w) => {
      for (const i of this.imports) {
        w.name(i.module);
        w.name(i.name);
        w.u8(0);
        w.uleb(i.type);
      }
      if (this.memory) {
        w.name(this.memory.module);
        w.name(this.memory.name);
        w.u8(2);
        w.u8(this.addressType === "i64" ? 7 : 3); // shared, with a maximum; of 64-bit addresses
        w.uleb(this.memory.limits.minPages);
        w.uleb(this.memory.limits.maxPages);
      }
      if (this.table) {
        w.name(this.table.module);
        w.name(this.table.name);
        w.u8(1);
        w.u8(0x70);
        w.u8(1);
        w.uleb(this.table.entries);
        w.uleb(this.table.entries);
      }
      for (const g of this.globalImports) {
        w.name(g.module);
        w.name(g.name);
        w.u8(3);
        w.u8(TYPE_CODE[g.type]);
        w.u8(0);
      }
    });
  }
}

function section(out: ByteWriter, id: number, count: number, write: (w: ByteWriter) => void): void {
  if (count === 0) return;
  const body = new ByteWriter(1024);
  body.uleb(count);
  write(body);
  out.u8(id);
  out.uleb(body.length);
  out.append(body.view());
}

function typeEntry(w: ByteWriter, signature: Signature): void {
  w.u8(0x60);
  w.uleb(signature.params.length);
  for (const p of signature.params) w.u8(TYPE_CODE[p]);
  w.uleb(signature.results.length);
  for (const r of signature.results) w.u8(TYPE_CODE[r]);
}

function globalEntry(w: ByteWriter, type: ValType, value: number): void {
  w.u8(TYPE_CODE[type]);
  w.u8(1);
  w.u8(type === "i32" ? 0x41 : 0x42);
  if (type === "i32") w.sleb32(value);
  else w.sleb64(value | 0, Math.floor(value / 2 ** 32));
  w.u8(0x0b);
}
