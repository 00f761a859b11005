import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  ByteWriter,
  constant,
  Fn,
  i32,
  i64,
  i64Big,
  i64Halves,
  ModuleBuilder,
  OPERATORS,
  type ValType,
  zero,
} from "./index.ts";

type Exports = Record<string, (...args: never[]) => unknown>;
function instantiate(m: ModuleBuilder, env: Record<string, unknown> = {}): Exports {
  return new WebAssembly.Instance(new WebAssembly.Module(m.finish()), { env } as never).exports as Exports;
}
const memory = () => new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const importMemory = (m: ModuleBuilder) => m.importMemory("env", "memory", { minPages: 1, maxPages: 1 });

describe("LEB128", () => {
  it("64-bit halves come out as the engine reads them", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        const m = new ModuleBuilder();
        m.func([], ["i64"], "f").fn.return(i64Big(value));
        assert.equal((instantiate(m).f as () => bigint)(), value);
      }),
    );
  });
  it("32-bit and unsigned numbers at the edges of each length", () => {
    for (const value of [0, 63, 64, -64, -65, 8191, -8193, 2 ** 31 - 1, -(2 ** 31)]) {
      const m = new ModuleBuilder();
      m.func([], ["i32"], "f").fn.return(i32(value));
      assert.equal((instantiate(m).f as () => number)(), value);
    }
    const w = new ByteWriter(1);
    for (const value of [0, 127, 128, 2 ** 32 - 1]) w.uleb(value);
    assert.deepEqual([...w.view()], [0, 0x7f, 0x80, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
  });
});

describe("operators", () => {
  /** Builds a function around one operator; V8 rejects it if opcode or types are wrong. */
  function accepts(name: string, result: ValType): boolean {
    const operandSets: ValType[][] = [];
    const types: ValType[] = ["i32", "i64", "f32", "f64", "v128"];
    for (const a of types) {
      operandSets.push([a]);
      for (const b of types) {
        operandSets.push([a, b]);
        for (const c of types) operandSets.push([a, b, c]);
      }
    }
    const isMemory = /load|store|atomic/.test(name);
    return operandSets.some((operands) => {
      if (isMemory && operands[0] !== "i32") return false;
      const m = new ModuleBuilder();
      importMemory(m);
      const isStore = /store/.test(name);
      const func = m.func(operands, isStore ? [] : [result]);
      const args = operands.map((_, k) => func.fn.param(k));
      if (isStore) {
        if (operands.length !== 2) return false;
        func.fn.store(name, args[0] as never, args[1]);
      } else if (isMemory) func.fn.return(func.fn.load(name, args[0] as never, 0, args[1], args[2]));
      else if (/_lane/.test(name)) func.fn.return(func.fn.lane(name, 0, args[0], args[1]));
      else func.fn.return(func.fn.op(name, args[0], args[1], args[2]));
      return WebAssembly.validate(m.finish());
    });
  }
  for (const [name, result] of OPERATORS) {
    if (name === "atomic.fence") continue; // takes no operand; Fn.fence emits it
    it(name, () => assert.ok(accepts(name, result)));
  }
});

describe("functions", () => {
  it("evaluates expressions in post-order, with constants folded away", () => {
    const m = new ModuleBuilder();
    const { fn } = m.func(["i32", "i32"], ["i32"], "f");
    fn.return(fn.param<"i32">(0).mul(3).add(fn.param<"i32">(1).sub(1)).add(0));
    assert.equal((instantiate(m).f as (a: number, b: number) => number)(5, 8), 22);
  });
  it("refuses to compute an expression twice", () => {
    const fn = new Fn({ params: ["i32"], results: ["i32"] });
    const sum = fn.param<"i32">(0).add(1);
    fn.drop(sum);
    assert.throws(() => fn.drop(sum), /emitted twice/);
    const kept = fn.let(fn.param<"i32">(0).add(2));
    fn.drop(kept);
    assert.doesNotThrow(() => fn.drop(kept));
  });
  it("keeps a value that is read before its variable changes", () => {
    const m = new ModuleBuilder();
    const { fn } = m.func(["i64"], ["i64"], "f");
    const v = fn.var("i64", fn.param<"i64">(0));
    const doubled = fn.let(v.get().shl(1));
    v.set(i64(0));
    fn.return(doubled.add(v.get()));
    assert.equal((instantiate(m).f as (n: bigint) => bigint)(21n), 42n);
  });
  it("branches out of nested blocks and loops to the right place", () => {
    const m = new ModuleBuilder();
    const { fn } = m.func(["i32"], ["i32"], "f");
    const total = fn.var("i32", i32(0));
    const n = fn.var("i32", fn.param<"i32">(0));
    fn.block((out) =>
      fn.loop((again) => {
        fn.block((skip) => {
          fn.brIf(skip, n.get().and(1));
          total.set(total.get().add(n.get()));
        });
        n.set(n.get().sub(1));
        fn.brIf(out, n.get().eqz());
        fn.br(again);
      }),
    );
    fn.return(total.get());
    assert.equal((instantiate(m).f as (n: number) => number)(10), 30);
  });
  it("puts statements in front of what was emitted", () => {
    const m = new ModuleBuilder();
    const { fn } = m.func([], ["i32"], "f");
    const v = fn.var("i32");
    fn.return(v.get());
    fn.prepend(() => v.set(i32(7)));
    assert.equal((instantiate(m).f as () => number)(), 7);
  });
  it("calls through a table and reaches shared memory", () => {
    const m = new ModuleBuilder();
    importMemory(m);
    m.importTable("env", "table", 4);
    const callee = m.func(["i32"], ["i32"]);
    callee.fn.return(callee.fn.load("i32.load", callee.fn.param(0), 8));
    m.element(2, [callee]);
    const { fn } = m.func(["i32", "i32"], ["i32"], "f");
    const type = m.type({ params: ["i32"], results: ["i32"] });
    fn.return(fn.callIndirect(type, "i32", 0, fn.param(0), fn.param(1)));
    const shared = memory();
    new Int32Array(shared.buffer)[6] = 99;
    const table = new WebAssembly.Table({ element: "anyfunc", initial: 4, maximum: 4 });
    const f = instantiate(m, { memory: shared, table }).f as (slot: number, at: number) => number;
    assert.equal(f(2, 16), 99);
    assert.throws(() => f(1, 16), WebAssembly.RuntimeError);
  });
  it("makes constants of every type", () => {
    assert.ok(zero("i64").isConst && constant("i32", 5).isInt(5) && i64Halves(-1, -1).isInt(-1));
    assert.ok(!i64Halves(-1, 0).isInt(-1));
  });
});
