import type { Callee, Fn, I32, I64, ModuleBuilder, Signature, Val, ValType } from "@xenoserver/wasm";

/**
 * Functions of the engine's module that semantics share: what is too long to be put into every handler. A file defines its
 * helpers beside the instructions that use them; handlers in other modules import a helper when they first ask for it.
 */
interface HelperDef {
  readonly name: string;
  readonly params: readonly HelperParam[];
  readonly results: readonly ValType[];
  readonly body: (h: HelperBody) => void;
}
/** `address`: an address of the module's memory, of either type. */
export type HelperParam = ValType | "address";
const definitions = new Map<string, HelperDef>();
const signatureOf = ({ params, results }: HelperDef, m: ModuleBuilder): Signature => ({
  params: params.map((type) => (type === "address" ? m.addressType : type)),
  results,
});

/**
 * Defines a helper. Its first parameter is always the vcpu's area; `params` are those behind it.
 * @param result what it returns, if anything
 * @param body   emits the code; the helper's end is unreachable if it has a result, so it must return
 */
export function defineHelper(
  name: string,
  params: readonly HelperParam[],
  result: ValType | undefined,
  body: (h: HelperBody) => void,
): void {
  if (definitions.has(name)) throw new Error(`helper "${name}" is defined twice`);
  definitions.set(name, { name, params: ["i32", ...params], results: result ? [result] : [], body });
}

/** What a helper's body is written against. */
export class HelperBody {
  readonly f: Fn;
  private readonly find: (name: string) => Callee;

  constructor(f: Fn, find: (name: string) => Callee) {
    this.f = f;
    this.find = find;
  }
  /** Address of the vcpu's area. */
  get vb(): I32 {
    return this.f.param(0);
  }
  /** Parameter `n` of those behind the vcpu's area. */
  param<T extends ValType>(n: number): Val<T> {
    return this.f.param<T>(n + 1);
  }
  call<T extends ValType>(name: string, ...args: Val[]): Val<T> {
    return this.f.let(this.f.call<T>(this.find(name), this.vb, ...args));
  }
  callVoid(name: string, ...args: Val[]): void {
    this.f.callVoid(this.find(name), this.vb, ...args);
  }
  load32(offset: number): I32 {
    return this.f.let(this.f.load<"i32">("i32.load", this.vb, offset));
  }
  load64(offset: number): I64 {
    return this.f.let(this.f.load<"i64">("i64.load", this.vb, offset));
  }
  store32(offset: number, value: I32): void {
    this.f.store("i32.store", this.vb, value, offset);
  }
  store64(offset: number, value: I64): void {
    this.f.store("i64.store", this.vb, value, offset);
  }
}

/** Puts all helpers into a module, exported under their names. @returns how to find them */
export function emitHelpers(m: ModuleBuilder): (name: string) => Callee {
  const funcs = new Map(
    [...definitions.values()].map((d) => [d.name, m.func(signatureOf(d, m).params, d.results, d.name)]),
  );
  const find = (name: string) => found(funcs.get(name), name);
  for (const d of definitions.values()) {
    const { fn } = find(d.name);
    d.body(new HelperBody(fn, find));
    if (d.results.length) fn.unreachable();
  }
  return find;
}

/** Finds helpers for another module: each is imported from `from` when it is first asked for. */
export function importedHelpers(m: ModuleBuilder, from: string): (name: string) => Callee {
  const imported = new Map<string, Callee>();
  return (name) => {
    let callee = imported.get(name);
    if (!callee)
      imported.set(name, (callee = m.importFunc(from, name, signatureOf(found(definitions.get(name), name), m))));
    return callee;
  };
}

function found<T>(value: T | undefined, name: string): T {
  if (!value) throw new Error(`helper "${name}" is not defined`);
  return value;
}
